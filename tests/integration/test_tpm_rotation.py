"""A TPM behind tpm2-pkcs11 for as long as a sidecar lives."""

from __future__ import annotations

from sidecar.core.public_key import verify
from sidecar.token.base import TokenKey
from sidecar.token.pkcs11 import Pkcs11Token
from tests.fixtures.requests import ALGORITHM, SCHEME


def _check(token: Pkcs11Token, key: TokenKey) -> None:
    verify(key.public_key, SCHEME, token.sign(key.id, SCHEME, b"m"), b"m")


def test_a_rotation_leaves_the_key_that_is_in_use_alone(tpm2_token: Pkcs11Token) -> None:
    # Up to 1.10 the third key gets the handles of the second one's public half, and destroying
    # the one destroys the other.
    current = tpm2_token.generate(ALGORITHM, "web")
    for _ in range(4):
        successor = tpm2_token.generate(ALGORITHM, "web")
        for key in (current, successor):
            _check(tpm2_token, key)
        tpm2_token.destroy(current.id)
        current = successor
        assert tpm2_token.keys() == [current]


def test_rotations_do_not_use_up_the_resource_manager(tpm2_token: Pkcs11Token) -> None:
    # Up to 1.9 each key pair that was ever made keeps two objects loaded, destroyed or not,
    # and the fixture's manager has room for 100.
    for _ in range(60):
        key = tpm2_token.generate(ALGORITHM, "web")
        _check(tpm2_token, key)
        tpm2_token.destroy(key.id)
    assert tpm2_token.keys() == []


def test_many_keys_live_at_once(tpm2_token: Pkcs11Token) -> None:
    keys = [tpm2_token.generate(ALGORITHM, f"key {number}") for number in range(60)]
    for key in keys:
        _check(tpm2_token, key)
    assert len(tpm2_token.keys()) == 60
