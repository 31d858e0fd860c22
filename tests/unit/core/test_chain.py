"""A CA's answer is checked before anyone sees it. Each check has its own test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.certificate_verify import Side
from sidecar.core.chain import CertificateChain, verified_chain
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import CertificateRefused
from tests.fixtures import certificates
from tests.fixtures.certificates import der, intermediate, leaf, root
from tests.fixtures.clock import START

ID = "spiffe://demo.mesh/ns/demo/sa/web"
KEY = certificates.new_key().public_key()
ROOT = root()
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
UNKNOWN = root("unknown")


def _verify(
    *answer: x509.Certificate | bytes,
    roots: Sequence[certificates.Signed] = (ROOT,),
    now: datetime = START,
    **limits: Any,
) -> CertificateChain:
    return verified_chain(
        [part if isinstance(part, bytes) else der(part) for part in answer],
        public_key=KEY,
        spiffe_id=SpiffeId.parse(ID),
        roots=[trusted.certificate for trusted in roots],
        now=now,
        **limits,
    )


def test_a_right_answer_is_accepted_without_its_root() -> None:
    certificate = leaf(ROOT, KEY, ID)
    chain = _verify(certificate, ROOT.certificate)
    assert chain.certificates == (der(certificate),)
    assert chain.serial == f"{certificate.serial_number:x}"
    assert chain.not_before == START - timedelta(minutes=2)
    assert chain.not_after == START + timedelta(minutes=20)


def test_intermediates_stay_in_the_chain_in_their_order() -> None:
    first = intermediate(ROOT, "first")
    second = intermediate(first, "second")
    certificate = leaf(second, KEY, ID)
    chain = _verify(certificate, second.certificate, first.certificate, ROOT.certificate)
    assert chain.certificates == (der(certificate), second.der, first.der)


def test_one_of_several_roots_is_enough() -> None:
    assert _verify(leaf(ROOT, KEY, ID), roots=[UNKNOWN, ROOT]).certificates


def test_a_leaf_without_extended_key_usage_or_basic_constraints_is_accepted() -> None:
    assert _verify(leaf(ROOT, KEY, ID, purposes=None, ca=None)).certificates


def test_a_dns_name_beside_our_spiffe_id_is_accepted() -> None:
    assert _verify(leaf(ROOT, KEY, ID, dns=["web.demo.svc"])).certificates


def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="without a certificate"):
        _verify()


@pytest.mark.parametrize("garbage", [b"", b"garbage", ROOT.pem])
def test_an_answer_that_is_no_certificate_is_refused(garbage: bytes) -> None:
    with pytest.raises(CertificateRefused, match="no certificate"):
        _verify(garbage)
    with pytest.raises(CertificateRefused, match="no certificate"):
        _verify(leaf(ROOT, KEY, ID), garbage)


def test_a_certificate_for_another_key_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="another key"):
        _verify(leaf(ROOT, certificates.new_key().public_key(), ID))


@pytest.mark.parametrize(
    "uris",
    [
        ["spiffe://demo.mesh/ns/demo/sa/other"],
        ["spiffe://other.mesh/ns/demo/sa/web"],
        [ID, "spiffe://demo.mesh/ns/demo/sa/other"],
        ["spiffe://demo.mesh/ns/demo/sa/other", ID],
        [ID, ID],
        [ID + "/"],
        [ID.upper()],
    ],
)
def test_any_other_or_any_further_uri_is_refused(uris: list[str]) -> None:
    with pytest.raises(CertificateRefused, match=r"expected exactly .*: set spiffe_id to"):
        _verify(leaf(ROOT, KEY, *uris))


def test_a_certificate_without_a_uri_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="has no SPIFFE ID"):
        _verify(leaf(ROOT, KEY))
    with pytest.raises(CertificateRefused, match="expected exactly"):
        _verify(leaf(ROOT, KEY, dns=["web.demo.svc"]))


def test_an_expired_leaf_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="expired"):
        _verify(leaf(ROOT, KEY, ID), now=START + timedelta(minutes=20))


def test_a_leaf_is_valid_until_the_second_before_it_expires() -> None:
    assert _verify(leaf(ROOT, KEY, ID), now=START + timedelta(minutes=19, seconds=59)).certificates


def test_a_leaf_from_the_future_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="is valid from"):
        _verify(leaf(ROOT, KEY, ID, not_before=timedelta(seconds=1)))


@pytest.mark.parametrize(
    ("off", "message"),
    [
        (timedelta(minutes=-10), r"valid from 2030-01-01T11:58:00Z, it is 2030-01-01T11:50:00Z"),
        (timedelta(minutes=30), r"expired 2030-01-01T12:20:00Z, it is 2030-01-01T12:30:00Z"),
    ],
)
def test_a_clock_that_is_off_is_told_with_both_times(off: timedelta, message: str) -> None:
    with pytest.raises(CertificateRefused, match=f"{message} here: compare the clocks"):
        _verify(leaf(ROOT, KEY, ID), now=START + off)


def test_a_ca_certificate_as_leaf_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="is a CA certificate"):
        _verify(leaf(ROOT, KEY, ID, ca=True))


@pytest.mark.parametrize("usage", ["key_cert_sign", "crl_sign"])
def test_a_leaf_that_may_sign_for_a_ca_is_refused(usage: str) -> None:
    with pytest.raises(CertificateRefused, match="may sign certificates or CRLs"):
        _verify(leaf(ROOT, KEY, ID, usages=["digital_signature", usage]))


def test_a_leaf_that_may_not_sign_handshakes_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="lacks digitalSignature: let the CA add it"):
        _verify(leaf(ROOT, KEY, ID, usages=["key_agreement"]))


def test_a_leaf_without_key_usage_is_accepted_as_istio_csr_gives_such() -> None:
    assert _verify(leaf(ROOT, KEY, ID, usages=None)).certificates


@pytest.mark.parametrize(
    ("purposes", "missing"),
    [
        ([SERVER], "client auth"),
        ([CLIENT], "server auth"),
        ([ExtendedKeyUsageOID.CODE_SIGNING], "server auth and client auth"),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], "server auth and client auth"),
    ],
)
def test_a_leaf_that_is_not_for_both_sides_of_tls_is_refused(
    purposes: list[x509.ObjectIdentifier], missing: str
) -> None:
    with pytest.raises(
        CertificateRefused, match=f"an extended key usage that lacks {missing}: let the CA"
    ):
        _verify(leaf(ROOT, KEY, ID, purposes=purposes))


@pytest.mark.parametrize(
    ("side", "right", "wrong"), [(Side.SERVER, SERVER, CLIENT), (Side.CLIENT, CLIENT, SERVER)]
)
def test_a_leaf_for_the_one_side_that_is_used_is_enough(
    side: Side, right: x509.ObjectIdentifier, wrong: x509.ObjectIdentifier
) -> None:
    assert _verify(leaf(ROOT, KEY, ID, purposes=[right]), sides=frozenset({side})).certificates
    with pytest.raises(CertificateRefused, match=f"lacks {side.name.lower()} auth: let the CA"):
        _verify(leaf(ROOT, KEY, ID, purposes=[wrong]), sides=frozenset({side}))


@pytest.mark.parametrize("purpose", [SERVER, CLIENT, ExtendedKeyUsageOID.CODE_SIGNING])
def test_an_issuer_that_is_not_for_both_sides_of_tls_is_refused_as_peers_would(
    purpose: x509.ObjectIdentifier,
) -> None:
    bounded = intermediate(ROOT, extensions=[(x509.ExtendedKeyUsage([purpose]), False)])
    below = intermediate(bounded, "below")
    for issuer, others in ((bounded, []), (below, [bounded])):
        with pytest.raises(CertificateRefused, match=r"issuer 'CN=intermediate' .* lacks"):
            _verify(
                leaf(issuer, KEY, ID), issuer.certificate, *(other.certificate for other in others)
            )


@pytest.mark.parametrize(
    "purposes", [[SERVER, CLIENT], [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]]
)
def test_an_issuer_for_both_sides_or_for_anything_is_accepted(
    purposes: list[x509.ObjectIdentifier],
) -> None:
    issuer = intermediate(ROOT, extensions=[(x509.ExtendedKeyUsage(purposes), False)])
    assert _verify(leaf(issuer, KEY, ID), issuer.certificate).certificates


def test_a_certificate_that_is_not_in_the_path_bounds_nothing() -> None:
    stray = intermediate(
        ROOT,
        "stray",
        extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)],
    )
    assert _verify(leaf(ROOT, KEY, ID), stray.certificate).certificates


def test_a_leaf_needs_some_time_left() -> None:
    certificate = leaf(ROOT, KEY, ID, not_after=timedelta(seconds=60))
    assert _verify(certificate, least_left=timedelta(seconds=60)).certificates
    with pytest.raises(CertificateRefused, match=r"valid for 0:00:59 more, and at least 0:01:00"):
        _verify(certificate, now=START + timedelta(seconds=1), least_left=timedelta(seconds=60))


def test_a_leaf_with_the_longest_lifetime_of_istiod_is_accepted_and_none_for_longer() -> None:
    istiod = leaf(ROOT, KEY, ID, not_after=timedelta(days=90, minutes=5))
    assert _verify(istiod).certificates
    with pytest.raises(CertificateRefused, match=r"at most 90 days, 0:00:00 is allowed"):
        _verify(leaf(ROOT, KEY, ID, not_after=timedelta(days=90, minutes=5, seconds=1)))


def test_how_long_a_leaf_may_live_can_be_set() -> None:
    certificate = leaf(ROOT, KEY, ID, not_after=timedelta(hours=2))
    assert _verify(certificate, longest=timedelta(hours=2)).certificates
    with pytest.raises(CertificateRefused, match="at most 1:00:00 is allowed"):
        _verify(certificate, longest=timedelta(hours=1))


def test_a_thousand_certificates_are_refused_unread() -> None:
    with pytest.raises(CertificateRefused, match="1000 certificates, and at most 10"):
        _verify(*[b"garbage"] * 1000)


def test_a_certificate_of_ten_megabytes_is_refused_unread() -> None:
    with pytest.raises(CertificateRefused, match="10000000 bytes, and at most 61440"):
        _verify(bytes(10_000_000))


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
)
def test_a_certificate_for_another_kind_of_key_is_refused(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ROOT.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(START + timedelta(minutes=1))
    )
    with pytest.raises(CertificateRefused, match="another key"):
        _verify(builder.sign(ROOT.key, hashes.SHA256()))


_INTERMEDIATE = intermediate(ROOT)
_LEAF = der(leaf(_INTERMEDIATE, KEY, ID))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=600)
@given(st.integers(0, len(_LEAF) - 1), st.integers(0, 255))
def test_a_changed_byte_in_the_leaf_is_refused_and_raises_nothing_else(
    place: int, value: int
) -> None:
    _refuses_a_change(_LEAF, place, value, lambda der: _verify(der, _INTERMEDIATE.certificate))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=300)
@given(st.integers(0, len(_INTERMEDIATE.der) - 1), st.integers(0, 255))
def test_a_changed_byte_in_an_intermediate_is_refused_and_raises_nothing_else(
    place: int, value: int
) -> None:
    _refuses_a_change(_INTERMEDIATE.der, place, value, lambda der: _verify(_LEAF, der))


def _refuses_a_change(
    original: bytes, place: int, value: int, verify: Callable[[bytes], object]
) -> None:
    changed = bytearray(original)
    changed[place] = value
    try:
        verify(bytes(changed))
    except CertificateRefused:
        return
    # The signature's encoding has spare bits; what was signed has none.
    before, after = map(x509.load_der_x509_certificate, (original, bytes(changed)))
    assert after.tbs_certificate_bytes == before.tbs_certificate_bytes
