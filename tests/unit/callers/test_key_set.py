"""Which keys verify tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from sidecar.callers.key_set import parse_key_set
from tests.fixtures.bearers import Issuer, issuer, key_set

ONE = issuer("one").entry
EDWARDS = Issuer(ed25519.Ed25519PrivateKey.generate(), "ed").entry
RSA = Issuer(rsa.generate_private_key(65537, 2048), "rsa").entry
P521 = Issuer(ec.generate_private_key(ec.SECP521R1()), "big").entry


def test_each_kind_of_key_has_its_own_algorithms() -> None:
    found = parse_key_set(key_set(ONE, EDWARDS, RSA))
    assert found["one"].algorithms == ("ES256",)
    assert found["ed"].algorithms == ("EdDSA",)
    assert set(found["rsa"].algorithms) == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert parse_key_set(key_set({**RSA, "alg": "PS256"}))["rsa"].algorithms == ("PS256",)


@pytest.mark.parametrize(
    "other",
    [
        P521,
        {**RSA, "use": "enc"},
        {**RSA, "alg": "RSA-OAEP"},
        {**RSA, "alg": "HS256"},
        {**RSA, "alg": "none"},
        {**RSA, "key_ops": ["encrypt"]},
        {**RSA, "key_ops": "verify"},
        {**RSA, "kid": None},
        {**RSA, "kid": ""},
        {**RSA, "kty": "ML-DSA"},
        {**ONE, "kid": "two", "crv": ["P-256"]},
        {**EDWARDS, "crv": "X25519"},
        {},
    ],
)
def test_keys_for_something_else_are_passed_over(other: dict[str, Any]) -> None:
    assert [*parse_key_set(key_set(other, ONE))] == ["one"]
    with pytest.raises(ValueError, match="no key with a kid that verifies"):
        parse_key_set(key_set(other))


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "no readable JSON"),
        (b"\xff", "no readable JSON"),
        (b"[" * 100_000, "no readable JSON"),
        (b"[]", "no JWK Set"),
        (b'{"keys": {}}', "no JWK Set"),
        (b'{"keys": [1]}', "no JWK Set"),
        (b'{"keys": []}', "no key with a kid"),
        (key_set(ONE, ONE), "two of its keys have the kid 'one'"),
        (key_set({**ONE, "d": "AAAA"}), "a private or secret key lies in it"),
        (key_set(ONE, {"kty": "oct", "k": "c2VjcmV0"}), "a private or secret key lies in it"),
        (key_set({**ONE, "x": "AAAA"}), "'one' cannot be read"),
        (key_set({**ONE, "x": 7}), "'one' cannot be read"),
        (key_set({**ONE, "x": EDWARDS["x"]}), "'one' cannot be read"),
        (key_set({**RSA, "n": "AQAB"}), "'rsa' cannot be read|fewer than 2048 bits"),
    ],
)
def test_a_file_that_is_no_such_set_is_refused(document: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_key_set(document)


def test_weak_keys_are_refused() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    with pytest.raises(ValueError, match="fewer than 2048 bits"):
        parse_key_set(key_set(Issuer(weak, "weak").entry))


@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops"]),
        st.none() | st.text(max_size=6) | st.integers() | st.lists(st.text(max_size=6)),
    ),
    st.sampled_from([ONE, EDWARDS, RSA]),
)
def test_whatever_a_set_holds_it_is_read_or_refused(
    changes: dict[str, Any], entry: dict[str, Any]
) -> None:
    try:
        parse_key_set(json.dumps({"keys": [{**entry, **changes}]}).encode())
    except ValueError:
        return
