"""Who may have signed a deny list, and as what."""

from __future__ import annotations

import base64
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from jwt.api_jws import PyJWS

from sidecar.core.deny_list import MOST_BYTES
from sidecar.core.private_key import PrivateKey
from sidecar.core.schemes import KeyAlgorithm
from sidecar.core.token_key import token_private_key
from sidecar.deny.jws import public_keys, signed_list, verified
from sidecar.errors import DenyListRefused, NoSuchKey
from tests.fakes.token import FakeToken
from tests.fixtures import certificates
from tests.fixtures.deny_lists import HEADER, OTHER, PEER, ListSigner, deny_list, pem, unsigned

_LIST = deny_list(7, PEER, OTHER)
_SIGNER = ListSigner()
_RSA_KEY = rsa.generate_private_key(65537, 2048)
_SIGNED = _SIGNER.sign(_LIST)


def _signers() -> list[ListSigner]:
    others: dict[str, PrivateKey] = {
        "ES384": ec.generate_private_key(ec.SECP384R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        **dict.fromkeys(("PS256", "PS384", "PS512", "RS256", "RS384", "RS512"), _RSA_KEY),
    }
    return [_SIGNER, *(ListSigner(key, algorithm) for algorithm, key in others.items())]


@pytest.mark.parametrize("signer", _signers(), ids=lambda signer: signer.algorithm)
def test_every_algorithm_with_a_public_key_is_taken_from_its_key(signer: ListSigner) -> None:
    other = ListSigner()
    signed = signer.sign(_LIST)
    assert verified(signed, [other.public_key, signer.public_key]) == _LIST
    assert verified(signed + b"\n", [signer.public_key]) == _LIST
    with pytest.raises(DenyListRefused, match="none of the keys has signed"):
        verified(signed, [other.public_key])
    with pytest.raises(DenyListRefused, match="none of the keys has signed"):
        verified(signed, [])


@given(st.integers(0, len(_SIGNED) - 1), st.integers(1, 255))
def test_with_any_byte_changed_it_is_refused(place: int, change: int) -> None:
    changed = bytearray(_SIGNED)
    changed[place] ^= change
    with pytest.raises(DenyListRefused):
        verified(bytes(changed), [_SIGNER.public_key])


def test_with_any_bit_flipped_or_any_end_cut_off_it_is_refused() -> None:
    for place in range(len(_SIGNED)):
        for wrong in (
            _SIGNED[:place] + bytes([_SIGNED[place] ^ 1]) + _SIGNED[place + 1 :],
            _SIGNED[:place],
            _SIGNED[:place] + _SIGNED[place + 1 :],
        ):
            with pytest.raises(DenyListRefused):
                verified(wrong, [_SIGNER.public_key])


@given(st.binary(max_size=300))
def test_whatever_comes_is_refused(signed: bytes) -> None:
    with pytest.raises(DenyListRefused):
        verified(signed, [_SIGNER.public_key])


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(min_size=1, max_size=60))
def test_whatever_three_parts_hold_is_refused(first: bytes, second: bytes, third: bytes) -> None:
    with pytest.raises(DenyListRefused):
        verified(unsigned(first, second, third), [_SIGNER.public_key])


@pytest.mark.parametrize(
    "wrong",
    [
        _SIGNED + b"\n\n",
        _SIGNED + b"\r\n",
        b"\n" + _SIGNED,
        _SIGNED + b"=",
        _SIGNED.replace(b".", b"=.", 1),
        _SIGNED + b".x",
        _SIGNED.replace(b".", b"..", 1),
        b"\xef\xbb\xbf" + _SIGNED,
        json.dumps({"payload": "x", "signatures": []}).encode(),
    ],
)
def test_one_form_alone_is_read(wrong: bytes) -> None:
    with pytest.raises(DenyListRefused, match="no JWS in compact serialization"):
        verified(wrong, [_SIGNER.public_key])


# What a header may say, with everything else right.


@pytest.mark.parametrize("algorithm", ["none", "None", "", "HS256", "ES512", "ES256K", "A128KW"])
def test_an_algorithm_without_a_public_key_is_refused(algorithm: str) -> None:
    header = {**HEADER, "alg": algorithm}
    for signature in (b"", b"x"):
        with pytest.raises(DenyListRefused):
            verified(unsigned(header, _LIST.encode(), signature), [_SIGNER.public_key])


def test_a_mac_with_the_public_key_is_no_signature() -> None:
    message = unsigned(HEADER | {"alg": "HS256"}, _LIST.encode(), b"").removesuffix(b".")
    mac = hmac.digest(_SIGNER.pem, message, "sha256")
    forged = message + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")
    with pytest.raises(DenyListRefused, match="alg is none that a deny list is signed with"):
        verified(forged, [_SIGNER.public_key])


def test_a_key_signs_with_its_own_algorithm_only() -> None:
    for signer in _signers()[1:]:
        header = {**HEADER, "alg": signer.algorithm}
        with pytest.raises(DenyListRefused, match="none of the keys has signed"):
            verified(unsigned(header, _LIST.encode()), [_SIGNER.public_key])


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "meshkey-deny"},
        {"typ": "application/meshkey-deny+jws"},
        {"typ": None},
        {"kid": "1"},
        {"cty": "json"},
        {"crit": ["b64"], "b64": True},
        {"jwk": {"kty": "EC"}},
        {"jku": "https://evil.example/keys"},
        {"x5c": ["AAAA"]},
    ],
)
def test_a_header_says_what_it_is_and_nothing_else(header: dict[str, object]) -> None:
    with pytest.raises(DenyListRefused, match="the JWS's"):
        verified(_SIGNER.sign(_LIST, **header), [_SIGNER.public_key])


def test_a_detached_payload_is_refused() -> None:
    detached = PyJWS().encode(
        _LIST.encode(), _SIGNER.key, "ES256", HEADER, is_payload_detached=True
    )
    header, _, signature = detached.split(".")
    payload = base64.urlsafe_b64encode(_LIST.encode()).rstrip(b"=").decode()
    for wrong in (detached, f"{header}.{payload}.{signature}"):
        with pytest.raises(DenyListRefused):
            verified(wrong.encode(), [_SIGNER.public_key])


def test_a_header_with_a_member_twice_is_refused() -> None:
    header = b'{"alg":"none","alg":"ES256","typ":"meshkey-deny+jws"}'
    encoded = base64.urlsafe_b64encode(header).rstrip(b"=")
    with pytest.raises(DenyListRefused, match="a member twice"):
        verified(encoded + _SIGNED[_SIGNED.index(b".") :], [_SIGNER.public_key])


@pytest.mark.parametrize("payload", [b"{}", b"", b"\xff", _LIST.encode().replace(b"7", b"0")])
def test_a_signature_makes_no_deny_list_of_something_else(payload: bytes) -> None:
    with pytest.raises(DenyListRefused):
        verified(_SIGNER.sign(payload), [_SIGNER.public_key])


def test_ecdsas_der_is_no_signature_of_a_jws() -> None:
    first, second, raw = _SIGNED.rsplit(b".", 2)
    half = base64.urlsafe_b64decode(raw + b"==")
    der = utils.encode_dss_signature(int.from_bytes(half[:32]), int.from_bytes(half[32:]))
    encoded = base64.urlsafe_b64encode(der).rstrip(b"=")
    with pytest.raises(DenyListRefused, match="none of the keys has signed"):
        verified(b".".join((first, second, encoded)), [_SIGNER.public_key])


def test_there_is_an_end_to_how_long_it_is() -> None:
    padded = _LIST.encode() + b" " * MOST_BYTES
    with pytest.raises(DenyListRefused, match="larger than"):
        verified(_SIGNER.sign(padded), [_SIGNER.public_key])


# Signed in a token.

_IN_TOKENS = [KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.ED25519]


@pytest.mark.parametrize("algorithm", [*_IN_TOKENS, KeyAlgorithm.RSA_2048])
def test_what_a_token_signs_is_taken(algorithm: KeyAlgorithm) -> None:
    token = FakeToken()
    key = token.generate(algorithm, "deny")
    private = token_private_key(
        key.public_key, lambda scheme, message: token.sign(key.id, scheme, message)
    )
    signed = signed_list(_LIST, private)
    assert verified(signed.encode(), [key.public_key]) == _LIST
    assert token.signatures == 1
    token.lose(key.id)
    with pytest.raises(NoSuchKey):
        signed_list(_LIST, private)


def test_a_key_that_signs_no_deny_lists_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    private = token_private_key(key.public_key(), lambda _scheme, _message: b"")
    with pytest.raises(DenyListRefused, match="signed with an EC P-256"):
        signed_list(_LIST, private)


# Files of keys.


def _private(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_several_keys_are_read_in_their_order_with_text_between_them() -> None:
    keys = [signer.public_key for signer in (_SIGNER, ListSigner())]
    assert public_keys(b"old\n" + pem(keys[0]) + b"new\n" + pem(keys[1])) == keys


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (b"", "no public key, PEM"),
        (b"-----BEGIN PUBLIC KEY-----\n", "only a part of one"),
        (_SIGNER.pem + _SIGNER.pem[:60], "only a part of one"),
        (_SIGNER.pem.replace(b"M", b"A"), "cannot be read"),
        (_SIGNER.pem + _private(_SIGNER.key), "a private key lies where"),
        (certificates.root().pem, "'CERTIFICATE' is no PUBLIC KEY"),
        (pem(ec.generate_private_key(ec.SECP521R1()).public_key()), "signed with an EC P-256"),
        (pem(rsa.generate_private_key(65537, 1024).public_key()), "signed with an EC P-256"),
    ],
)
def test_what_holds_anything_but_keys_is_refused(file: bytes, told: str) -> None:
    with pytest.raises(DenyListRefused, match=told):
        public_keys(file)


@given(st.binary(max_size=200).map(lambda junk: _SIGNER.pem[:80] + junk))
def test_whatever_a_key_file_holds_it_is_read_or_refused(file: bytes) -> None:
    with pytest.raises(DenyListRefused):
        public_keys(file)
