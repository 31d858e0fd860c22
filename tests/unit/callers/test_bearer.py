"""Which tokens are good."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from sidecar.callers.bearer import MOST_BYTES, BearerToken, Wanted, verified
from sidecar.callers.key_set import parse_key_set
from sidecar.errors import CallerRefused
from tests.fixtures.bearers import AUDIENCE, ISSUER, NOW, SUBJECT, Issuer, issuer, key_set

RSA = rsa.generate_private_key(65537, 2048)
ISSUING, STRANGER = issuer(), issuer()
KEYS = parse_key_set(key_set(ISSUING.entry, Issuer(RSA, "rsa").entry))
WANTED = Wanted(AUDIENCE, ISSUER, timedelta(hours=1), needs_id=True)
HOUR = int(timedelta(hours=1).total_seconds())
SECOND = timedelta(seconds=1)


def _verified(token: str) -> BearerToken:
    return verified(token, KEYS, WANTED)


def _refused(token: str, why: str) -> None:
    with pytest.raises(CallerRefused, match=why) as refused:
        _verified(token).require_current(NOW)
    # Neither in the text nor in what a traceback would show.
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    for part in filter(None, token.split(".")):
        assert part not in str(refused.value)


def _encoded(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _forged(header: dict[str, object], secret: bytes | None = None) -> str:
    """A good token's claims under a header and a signature of our own."""
    claims = ISSUING.token().split(".")[1]
    signed = f"{_encoded(header)}.{claims}"
    mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest() if secret else b""
    return f"{signed}.{_encoded(mac)}"


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        *((RSA, alg) for alg in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    ],
)
def test_a_token_of_the_issuer_is_good(key: Any, alg: str) -> None:
    issuing = Issuer(key, "k", alg)
    token = verified(issuing.token(), parse_key_set(key_set(issuing.entry)), WANTED)
    token.require_current(NOW)
    assert (token.subject, token.id) == (SUBJECT, "token-1")


def test_an_audience_may_be_one_of_several() -> None:
    assert _verified(ISSUING.token(aud=["other", AUDIENCE])).subject == SUBJECT


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None])
def test_a_token_without_a_signature_is_refused(alg: object) -> None:
    _refused(_forged({"alg": alg, "kid": "one"}), "malformed, or its alg")
    _refused(_forged({"kid": "one"}), "malformed, or its alg")


@pytest.mark.parametrize("kid", ["one", "rsa"])
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_shared_secret(kid: str, alg: str) -> None:
    public = KEYS[kid].key
    for encoding in (Encoding.PEM, Encoding.DER):
        secret = public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        _refused(_forged({"alg": alg, "kid": kid}, secret), "malformed, or its alg")


def test_a_key_is_used_with_its_own_algorithms_only() -> None:
    keys = parse_key_set(key_set({**Issuer(RSA, "rsa").entry, "alg": "PS256"}))
    assert verified(Issuer(RSA, "rsa", "PS256").token(), keys, WANTED)
    with pytest.raises(CallerRefused, match="its alg is not one of its key's"):
        verified(Issuer(RSA, "rsa", "RS256").token(), keys, WANTED)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "another"}, "another audience"),
        ({"aud": [AUDIENCE + "2"]}, "another audience"),
        ({"aud": {AUDIENCE: 1}}, "another audience"),
        ({"iss": "https://other.example"}, "another issuer"),
        ({"iss": None}, "lacks one of"),
        ({"exp": None}, "lacks one of"),
        ({"iat": None}, "lacks one of"),
        ({"aud": None}, "lacks one of"),
        ({"sub": None}, "lacks one of"),
        ({"sub": 7}, "malformed"),
        ({"jti": None}, "no jti"),
        ({"jti": "a b"}, "no jti"),
        ({"jti": "a\nb"}, "no jti"),
        ({"jti": "x" * 257}, "no jti"),
        ({"jti": 7}, "malformed"),
        ({"exp": int(NOW.timestamp())}, "has expired"),
        ({"exp": int(NOW.timestamp()) + HOUR + 1}, "lives longer than bearer.longest"),
        ({"nbf": int(NOW.timestamp()) + 31}, "not good yet"),
        ({"exp": "soon"}, "exp is no time"),
        ({"exp": float("inf")}, "exp is no time"),
        ({"exp": float("nan")}, "exp is no time"),
        ({"exp": 10**400}, "exp is no time"),
        ({"exp": True}, "exp is no time"),
        ({"exp": -1}, "exp is no time"),
        ({"iat": 1e400}, "iat is no time"),
        ({"nbf": []}, "nbf is no time"),
    ],
)
def test_a_well_signed_token_that_says_something_else_is_refused(
    claims: dict[str, Any], why: str
) -> None:
    _refused(ISSUING.token(**claims), why)


def test_a_token_is_good_from_its_beginning_to_its_end() -> None:
    token = _verified(ISSUING.token())
    end = NOW + timedelta(minutes=5)
    token.require_current(end - SECOND)
    with pytest.raises(CallerRefused, match="has expired"):
        token.require_current(end)
    # The issuer's clock may be half a minute fast.
    token.require_current(NOW - 30 * SECOND)
    with pytest.raises(CallerRefused, match="not good yet"):
        token.require_current(NOW - 31 * SECOND)


def test_a_token_needs_no_name_where_none_can_be_revoked() -> None:
    unnamed = verified(ISSUING.token(jti=None), KEYS, replace(WANTED, needs_id=False))
    assert unnamed.id is None


def test_any_issuer_will_do_where_none_is_configured() -> None:
    assert verified(ISSUING.token(iss=None), KEYS, replace(WANTED, issuer=None)).subject == SUBJECT


def test_a_token_of_another_key_is_refused() -> None:
    _refused(STRANGER.token(), "signature is wrong")
    _refused(Issuer(STRANGER.key, "two").token(), "signed with no key of bearer.jwks")


@pytest.mark.parametrize("kid", [None, 7, ["one"], {"one": 1}, "", "ONE"])
def test_a_token_must_name_a_key_of_the_set(kid: object) -> None:
    _refused(_forged({"alg": "ES256", "kid": kid}), "no JWT|no key of bearer.jwks")
    _refused(_forged({"alg": "ES256"}), "no key of bearer.jwks")


def test_no_key_that_a_token_brings_along_is_used() -> None:
    for header in ("jwk", "x5c"):
        token = STRANGER.signed({"sub": SUBJECT}, **{header: STRANGER.entry})
        _refused(token, "signature is wrong")


def test_a_header_that_must_be_understood_and_is_not_is_refused() -> None:
    _refused(ISSUING.signed({"sub": SUBJECT}, crit=["exp"], exp=1), "no JWT|malformed")
    _refused(_forged({"alg": "ES256", "kid": "one", "b64": False, "crit": ["b64"]}), "malformed|no")


def test_a_token_is_as_long_as_tokens_are() -> None:
    _refused(ISSUING.token(pad="x" * MOST_BYTES), "more than 8192 bytes")
    _refused("." * MOST_BYTES, "no JWT")


@pytest.mark.parametrize(
    "junk",
    ["", ".", "..", "a.b.c", "....", "e30.e30.e30", "e30", "\ud800.a.b", "ä.ö.ü", "\0", "Bearer x"],
)
def test_junk_is_refused(junk: str) -> None:
    with pytest.raises(CallerRefused):
        _verified(junk)


@given(st.text() | st.lists(st.binary().map(_encoded), min_size=2, max_size=5).map(".".join))
def test_whatever_comes_is_refused_as_a_caller(text: str) -> None:
    with pytest.raises(CallerRefused):
        _verified(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk"]), _JSON))
def test_no_header_that_is_made_up_gets_a_token_through(header: dict[str, object]) -> None:
    with pytest.raises(CallerRefused):
        _verified(_forged({"alg": "ES256", "kid": "one", **header}))


@given(st.dictionaries(st.sampled_from(["exp", "iat", "nbf", "aud", "sub", "iss", "jti"]), _JSON))
def test_whatever_a_well_signed_token_says_it_is_read_or_refused(claims: dict[str, Any]) -> None:
    good = jwt.decode(ISSUING.token(), options={"verify_signature": False})
    try:
        _verified(ISSUING.signed({**good, **claims})).require_current(NOW)
    except CallerRefused:
        return


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_token_with_one_byte_changed_is_refused(where: int, change: int) -> None:
    token = bytearray(ISSUING.token().encode())
    where %= len(token)
    token[where] ^= change
    changed = token.decode("latin-1")
    with pytest.raises(CallerRefused):
        _verified(changed)
