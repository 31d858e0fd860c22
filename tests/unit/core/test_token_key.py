"""The stand-in for a private key gives signatures and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from sidecar.core.token_key import TokenPrivateKey
from tests.fixtures import certificates

PUBLIC = certificates.new_key().public_key()


def _key() -> TokenPrivateKey:
    return TokenPrivateKey(PUBLIC, lambda message: b"signature of " + message)


def test_the_whole_message_is_forwarded() -> None:
    assert _key().sign(bytearray(b"m"), ec.ECDSA(hashes.SHA256())) == b"signature of m"


@pytest.mark.parametrize("algorithm", [hashes.SHA384(), Prehashed(hashes.SHA256())])
def test_another_hash_or_a_finished_digest_is_refused(
    algorithm: hashes.HashAlgorithm | Prehashed,
) -> None:
    with pytest.raises(TypeError, match="whole messages with SHA-256"):
        _key().sign(bytes(32), ec.ECDSA(algorithm))


@pytest.mark.parametrize(
    "way_out",
    [
        lambda key: key.private_numbers(),
        lambda key: key.exchange(ec.ECDH(), PUBLIC),
        lambda key: key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    ],
)
def test_there_is_no_way_to_the_private_value(way_out: Callable[[TokenPrivateKey], object]) -> None:
    with pytest.raises(TypeError, match="token"):
        way_out(_key())


def test_a_copy_is_the_same_key() -> None:
    key = _key()
    assert copy.copy(key) is key
    assert copy.deepcopy(key) is key
    assert key.public_key() is PUBLIC
    assert key.curve.name == "secp256r1"
    assert key.key_size == 256
