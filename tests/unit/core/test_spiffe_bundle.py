"""SPIFFE bundle documents: roots for X.509, and nothing that has no business there."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.json_web_key import public_members
from sidecar.core.spiffe_bundle import SpiffeBundle
from sidecar.errors import CertificateRefused
from tests.fixtures import certificates
from tests.fixtures.spiffe_bundles import document, entry

DOMAIN = "demo.mesh"
ONE, TWO = certificates.root("one"), certificates.root("two")
LEAF = certificates.Signed(
    certificates.leaf(ONE, TWO.key.public_key(), "spiffe://demo.mesh/a"), TWO.key
)
FOR_TOKENS: dict[str, object] = {"use": "jwt-svid", "kid": "1", "kty": "EC", "crv": "P-256"}
RSA_KEY = rsa.generate_private_key(65537, 2048).public_key()


def _parse(text: bytes) -> SpiffeBundle:
    return SpiffeBundle.parse(DOMAIN, text)


def test_every_x509_root_is_read_in_its_order_with_sequence_and_hint() -> None:
    read = _parse(document(entry(TWO), entry(ONE), spiffe_sequence=7, spiffe_refresh_hint=300))
    assert read.bundle.trust_domain == DOMAIN
    assert read.bundle.der() == [TWO.der, ONE.der]
    assert read.sequence == 7
    assert read.refresh_hint == timedelta(minutes=5)


def test_sequence_and_hint_may_be_missing() -> None:
    read = _parse(document(entry(ONE)))
    assert read.sequence is None
    assert read.refresh_hint is None


@pytest.mark.parametrize(
    "other",
    [
        FOR_TOKENS,
        entry(TWO, use="wit-svid"),
        entry(TWO, use="X509-SVID"),
        entry(TWO, use=None),
        entry(TWO, kty="AKP"),
        entry(TWO, kty=None),
        entry(TWO, x5c=[]),
        entry(TWO, x5c=None),
    ],
)
def test_what_is_no_x509_root_is_passed_over(other: dict[str, object]) -> None:
    assert _parse(document(other, entry(ONE))).bundle.der() == [ONE.der]
    with pytest.raises(CertificateRefused, match='no certificate with use "x509-svid"'):
        _parse(document(other))


def test_certificates_after_an_entrys_first_are_passed_over() -> None:
    both = [base64.b64encode(root.der).decode() for root in (ONE, TWO)]
    assert _parse(document(entry(ONE, x5c=both))).bundle.der() == [ONE.der]


def test_a_root_that_is_there_twice_counts_once() -> None:
    assert _parse(document(entry(ONE), entry(ONE))).bundle.der() == [ONE.der]


@pytest.mark.parametrize(
    "key",
    [
        entry(ONE, d="AAAA"),
        FOR_TOKENS | {"d": "AAAA"},
        {"kty": "OKP", "d": "AAAA"},
        {"kty": "RSA", "d": "AAAA"},
        {"kty": "RSA", "p": "AAAA"},
        {"kty": "oct", "k": "AAAA"},
    ],
)
def test_a_private_key_is_called_by_its_name(key: dict[str, object]) -> None:
    with pytest.raises(CertificateRefused, match="a private key lies in the SPIFFE bundle"):
        _parse(document(entry(TWO), key))


@pytest.mark.parametrize(
    "members",
    [{"x": entry(TWO)["x"]}, {"y": entry(TWO)["y"]}, {"crv": "P-384"}, public_members(RSA_KEY)],
    ids=["x", "y", "curve", "kind"],
)
def test_an_entry_that_describes_another_key_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(CertificateRefused, match="another key than its certificate's"):
        _parse(document(entry(ONE, **members)))


@pytest.mark.parametrize(
    "chain",
    [
        ["!"],
        [""],
        [7],
        [None],
        [base64.b64encode(ONE.der[:-1]).decode()],
        [ONE.pem.decode()],
        [base64.b64encode(ONE.der).decode() + "\n"],
    ],
)
def test_a_certificate_that_cannot_be_read_spoils_the_bundle(chain: list[object]) -> None:
    with pytest.raises(CertificateRefused, match="no certificate in base64"):
        _parse(document(entry(TWO), entry(ONE, x5c=chain)))


def test_a_certificate_that_is_no_ca_spoils_the_bundle() -> None:
    with pytest.raises(CertificateRefused, match="is no CA"):
        _parse(document(entry(ONE), entry(LEAF)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "no readable JSON"),
        (ONE.pem, "no readable JSON"),
        (document(entry(ONE))[:-1], "no readable JSON"),
        (b"\xff", "no readable JSON"),
        (document(entry(ONE)).decode().encode("utf-16"), "no readable JSON"),
        (b"[" * 100_000, "no readable JSON"),
        (b'{"keys": %s}' % (b"9" * 5000), "no readable JSON"),
        (b'{"keys": [], "keys": []}', "no readable JSON"),
        (b"[]", "no JSON object"),
        (b"{}", 'no list "keys"'),
        (b'{"keys": {}}', 'no list "keys"'),
        (b'{"keys": [7]}', "something that is no key"),
        (b'{"keys": []}', 'no certificate with use "x509-svid"'),
    ],
)
def test_what_is_no_bundle_document_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(CertificateRefused, match=reason):
        _parse(text)


@pytest.mark.parametrize("field", ["spiffe_sequence", "spiffe_refresh_hint"])
@pytest.mark.parametrize("value", ["7", 7.5, True, -1, []])
def test_a_number_that_is_none_is_refused(field: str, value: object) -> None:
    with pytest.raises(CertificateRefused, match=f"{field}' is no whole number"):
        _parse(document(entry(ONE), **{field: value}))


def test_a_hint_of_a_billion_years_is_a_year() -> None:
    read = _parse(document(entry(ONE), spiffe_refresh_hint=10**30, spiffe_sequence=2**64))
    assert read.refresh_hint == timedelta(days=365)
    assert read.sequence == 2**64


@pytest.mark.parametrize(
    ("key", "members"),
    [
        (RSA_KEY, {"kty", "n", "e"}),
        (ec.generate_private_key(ec.SECP521R1()).public_key(), {"kty", "crv", "x", "y"}),
        (ed25519.Ed25519PrivateKey.generate().public_key(), {"kty", "crv", "x"}),
    ],
)
def test_other_kinds_of_keys_have_members_of_their_own(key: object, members: set[str]) -> None:
    assert public_members(key).keys() == members


def test_coordinates_keep_their_leading_zeros() -> None:
    # RFC 7518 section 6.2.1.2; about one key in 128 has one.
    keys = (ec.derive_private_key(number, ec.SECP256R1()) for number in range(1, 2000))
    assert {len(public_members(key.public_key())["x"]) for key in keys} == {43}


def test_the_exponent_of_rsa_is_as_short_as_it_can_be() -> None:
    assert public_members(RSA_KEY)["e"] == "AQAB"


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP256K1()).public_key(), object()], ids=["curve", "kind"]
)
def test_a_key_that_no_mesh_uses_is_refused(key: object) -> None:
    with pytest.raises(ValueError, match="no RSA, EC or Ed25519 key"):
        public_members(key)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
_NAMES = st.sampled_from(["use", "kty", "crv", "x", "y", "x5c", "d"])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(text: bytes) -> None:
    with suppress(CertificateRefused):
        _parse(text)


@given(st.dictionaries(_NAMES, _JSON), _JSON, _JSON)
def test_arbitrary_members_raise_nothing_else(
    members: dict[str, object], keys: object, number: object
) -> None:
    for text in (
        document(entry(ONE, **members), spiffe_sequence=number, spiffe_refresh_hint=number),
        json.dumps({"keys": keys}).encode(),
        json.dumps({"keys": [keys]}).encode(),
    ):
        with suppress(CertificateRefused):
            _parse(text)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=200)
@given(st.integers(0, len(ONE.der) - 1), st.integers(0, 255))
def test_a_changed_byte_in_a_root_raises_nothing_else(place: int, value: int) -> None:
    changed = bytearray(ONE.der)
    changed[place] = value
    with suppress(CertificateRefused):
        _parse(document(entry(ONE, x5c=[base64.b64encode(changed).decode()])))
