"""The stand-ins for private keys give signatures and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from sidecar.core.public_key import PublicKey
from sidecar.core.schemes import SignatureScheme
from sidecar.core.token_key import TokenEcKey, TokenRsaKey, certificate_scheme, token_private_key

EC = {
    curve.name: ec.generate_private_key(curve).public_key()
    for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
}
RSA = rsa.generate_private_key(65537, 2048).public_key()
ED25519 = ed25519.Ed25519PrivateKey.generate().public_key()
EVERY_KIND: list[PublicKey] = [*EC.values(), RSA, ED25519]
PSS_SHA256 = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


def _sign(scheme: SignatureScheme, message: bytes) -> bytes:
    return f"{scheme.name} of ".encode() + message


def _ec(curve: str = "secp256r1") -> TokenEcKey:
    return TokenEcKey(EC[curve], _sign)


def _rsa() -> TokenRsaKey:
    return TokenRsaKey(RSA, _sign)


@pytest.mark.parametrize(
    ("curve", "algorithm", "scheme"),
    [
        ("secp256r1", hashes.SHA256(), b"ECDSA_SECP256R1_SHA256"),
        ("secp384r1", hashes.SHA384(), b"ECDSA_SECP384R1_SHA384"),
        ("secp521r1", hashes.SHA512(), b"ECDSA_SECP521R1_SHA512"),
    ],
)
def test_the_whole_message_is_forwarded_with_the_scheme_of_the_curve(
    curve: str, algorithm: hashes.HashAlgorithm, scheme: bytes
) -> None:
    assert _ec(curve).sign(bytearray(b"m"), ec.ECDSA(algorithm)) == scheme + b" of m"


@pytest.mark.parametrize("algorithm", [hashes.SHA384(), Prehashed(hashes.SHA256())])
def test_another_hash_or_a_finished_digest_is_refused(
    algorithm: hashes.HashAlgorithm | Prehashed,
) -> None:
    with pytest.raises(TypeError, match="whole messages with sha256"):
        _ec().sign(bytes(32), ec.ECDSA(algorithm))


@pytest.mark.parametrize(
    ("used", "algorithm", "scheme"),
    [
        (padding.PKCS1v15(), hashes.SHA256(), b"RSA_PKCS1_SHA256"),
        (padding.PKCS1v15(), hashes.SHA512(), b"RSA_PKCS1_SHA512"),
        (PSS_SHA256, hashes.SHA256(), b"RSA_PSS_RSAE_SHA256"),
        (padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384(), b"RSA_PSS_RSAE_SHA384"),
    ],
)
def test_an_rsa_key_forwards_the_scheme_of_padding_and_hash(
    used: padding.AsymmetricPadding, algorithm: hashes.HashAlgorithm, scheme: bytes
) -> None:
    assert _rsa().sign(b"m", used, algorithm) == scheme + b" of m"


@pytest.mark.parametrize(
    ("used", "algorithm"),
    [
        (padding.PKCS1v15(), hashes.SHA1()),
        (padding.PKCS1v15(), Prehashed(hashes.SHA256())),
        (PSS_SHA256, Prehashed(hashes.SHA256())),
        (padding.PSS(padding.MGF1(hashes.SHA256()), 20), hashes.SHA256()),
        (padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH), hashes.SHA256()),
    ],
)
def test_an_rsa_key_refuses_what_is_no_scheme_of_tls(
    used: padding.AsymmetricPadding, algorithm: object
) -> None:
    with pytest.raises(TypeError, match="salt as long as the hash"):
        _rsa().sign(bytes(32), used, algorithm)


@pytest.mark.parametrize("public_key", EVERY_KIND)
@pytest.mark.parametrize(
    "way_out",
    [
        lambda key: key.private_numbers(),
        lambda key: key.exchange(ec.ECDH(), EC["secp256r1"]),
        lambda key: key.decrypt(b"", padding.PKCS1v15()),
        lambda key: key.private_bytes_raw(),
        lambda key: key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    ],
)
def test_there_is_no_way_to_the_private_value(
    public_key: PublicKey, way_out: Callable[[Any], object]
) -> None:
    with pytest.raises(TypeError, match="token"):
        way_out(token_private_key(public_key, _sign))


@pytest.mark.parametrize("public_key", EVERY_KIND)
def test_a_copy_is_the_same_key(public_key: PublicKey) -> None:
    key = token_private_key(public_key, _sign)
    assert copy.copy(key) is key
    assert copy.deepcopy(key) is key
    assert key.public_key() is public_key


def test_sizes_are_those_of_the_public_key() -> None:
    assert _ec().curve.name == "secp256r1"
    assert _ec().key_size == 256
    assert _rsa().key_size == 2048


def test_certificates_are_signed_with_what_every_verifier_reads() -> None:
    assert certificate_scheme(RSA) is SignatureScheme.RSA_PKCS1_SHA256
    assert certificate_scheme(ED25519) is SignatureScheme.ED25519
    assert certificate_scheme(EC["secp384r1"]) is SignatureScheme.ECDSA_SECP384R1_SHA384
    with pytest.raises(TypeError, match="no keys of this kind"):
        certificate_scheme(ec.generate_private_key(ec.SECP256K1()).public_key())
