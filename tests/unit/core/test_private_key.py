"""Private keys from outside are read, or refused in one line that shows nothing of them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x25519
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.private_key import parse_private_key
from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import KeyRefused, PassphraseMissing
from tests.fixtures.private_keys import pkcs8, some_key

KEY = some_key()
_BEGIN = b"-----BEGIN " + b"PRIVATE KEY-----\n"
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
OTHERS = [
    ec.generate_private_key(ec.SECP256K1()),
    rsa.generate_private_key(65537, 1024),
    dsa.generate_private_key(1024),
    x25519.X25519PrivateKey.generate(),
]


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
@pytest.mark.parametrize("encoding", [PEM, DER], ids=["pem", "der"])
@pytest.mark.parametrize("passphrase", [None, b"correct horse"], ids=["plain", "encrypted"])
def test_pkcs8_is_read(
    algorithm: KeyAlgorithm, encoding: serialization.Encoding, passphrase: bytes | None
) -> None:
    key = some_key(algorithm)
    read = parse_private_key(pkcs8(key, passphrase, encoding), passphrase)
    assert read.public_key() == key.public_key()


def test_a_passphrase_that_nobody_needs_is_ignored() -> None:
    assert parse_private_key(pkcs8(KEY), b"any").public_key() == KEY.public_key()


@pytest.mark.parametrize("encoding", [PEM, DER], ids=["pem", "der"])
def test_without_or_with_a_wrong_passphrase_it_stays_closed(
    encoding: serialization.Encoding,
) -> None:
    closed = pkcs8(KEY, b"correct", encoding)
    for nothing in (None, b""):
        with pytest.raises(PassphraseMissing, match="is encrypted: --passphrase-file"):
            parse_private_key(closed, nothing)
    with pytest.raises(KeyRefused, match="the passphrase is wrong") as refused:
        parse_private_key(closed, b"zq7x")
    assert "zq7x" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("other", OTHERS, ids=lambda key: type(key).__name__)
def test_other_kinds_are_refused(other: object) -> None:
    with pytest.raises(KeyRefused, match="of no kind that is used here: ec-p256"):
        parse_private_key(pkcs8(other))  # type: ignore[arg-type]


def test_a_public_key_is_no_private_key() -> None:
    public = KEY.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(KeyRefused, match="no private key"):
        parse_private_key(public)


@given(st.binary() | st.binary().map(lambda some: _BEGIN + some))
def test_whatever_else_comes_is_refused(content: bytes) -> None:
    with pytest.raises(KeyRefused):
        parse_private_key(content, b"passphrase")


@given(st.data())
def test_a_damaged_key_is_refused_or_another_one(data: st.DataObject) -> None:
    content = bytearray(pkcs8(KEY, encoding=DER))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(KeyRefused):
        parse_private_key(bytes(content))
