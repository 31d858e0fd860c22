"""Schemes and algorithms, against the IANA TLS SignatureScheme registry."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature

from sidecar.core.public_key import algorithm_of, verify
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from tests.fakes.token import FakeToken

# https://www.iana.org/assignments/tls-parameters, TLS SignatureScheme.
REGISTRY = {
    "rsa_pkcs1_sha256": 0x0401,
    "rsa_pkcs1_sha384": 0x0501,
    "rsa_pkcs1_sha512": 0x0601,
    "ecdsa_secp256r1_sha256": 0x0403,
    "ecdsa_secp384r1_sha384": 0x0503,
    "ecdsa_secp521r1_sha512": 0x0603,
    "rsa_pss_rsae_sha256": 0x0804,
    "rsa_pss_rsae_sha384": 0x0805,
    "rsa_pss_rsae_sha512": 0x0806,
    "ed25519": 0x0807,
}


def test_the_code_points_are_ianas() -> None:
    assert {scheme.name.lower(): scheme.value for scheme in SignatureScheme} == REGISTRY


def test_every_scheme_belongs_to_an_algorithm_and_rsa_keys_prefer_pss() -> None:
    assert {s for algorithm in KeyAlgorithm for s in algorithm.schemes} == set(SignatureScheme)
    for algorithm in KeyAlgorithm:
        assert not algorithm.schemes[0].is_pkcs1
        assert all(s.is_rsa == bool(algorithm.rsa_bits) for s in algorithm.schemes)


def test_hashes_follow_the_names() -> None:
    assert SignatureScheme.ED25519.hash_name is None
    assert SignatureScheme.RSA_PSS_RSAE_SHA384.hash_name == "sha384"
    assert SignatureScheme.ECDSA_SECP521R1_SHA512.hash_name == "sha512"


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_a_signature_verifies_with_its_scheme_and_no_other(algorithm: KeyAlgorithm) -> None:
    token = FakeToken()
    key = token.generate(algorithm, "k")
    assert algorithm_of(key.public_key) is algorithm
    for scheme in algorithm.schemes:
        signature = token.sign(key.id, scheme, b"m")
        verify(key.public_key, scheme, signature, b"m")
        with pytest.raises(InvalidSignature):
            verify(key.public_key, scheme, signature, b"n")
        for other in set(algorithm.schemes) - {scheme}:
            with pytest.raises(InvalidSignature):
                verify(key.public_key, other, signature, b"m")
