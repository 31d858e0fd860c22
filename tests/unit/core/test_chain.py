"""A CA's answer is checked before anyone sees it. Each check has its own test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.chain import CertificateChain, verified_chain
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import CertificateRefused
from tests.fixtures import certificates
from tests.fixtures.certificates import der, intermediate, leaf, root
from tests.fixtures.clock import START

ID = "spiffe://demo.mesh/ns/demo/sa/web"
KEY = certificates.new_key().public_key()
ROOT = root()
UNKNOWN = root("unknown")


def _verify(
    *answer: x509.Certificate | bytes,
    roots: Sequence[certificates.Signed] = (ROOT,),
    now: datetime = START,
) -> CertificateChain:
    return verified_chain(
        [part if isinstance(part, bytes) else der(part) for part in answer],
        public_key=KEY,
        spiffe_id=SpiffeId.parse(ID),
        roots=[trusted.certificate for trusted in roots],
        now=now,
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
    with pytest.raises(CertificateRefused, match="expected exactly"):
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


def test_a_ca_certificate_as_leaf_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="is a CA certificate"):
        _verify(leaf(ROOT, KEY, ID, ca=True))


@pytest.mark.parametrize("usage", ["key_cert_sign", "crl_sign"])
def test_a_leaf_that_may_sign_for_a_ca_is_refused(usage: str) -> None:
    with pytest.raises(CertificateRefused, match="may sign certificates or CRLs"):
        _verify(leaf(ROOT, KEY, ID, usages=["digital_signature", usage]))


def test_a_leaf_that_may_not_sign_handshakes_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="lacks digitalSignature"):
        _verify(leaf(ROOT, KEY, ID, usages=["key_agreement"]))


def test_a_leaf_without_key_usage_is_accepted_as_istio_csr_gives_such() -> None:
    assert _verify(leaf(ROOT, KEY, ID, usages=None)).certificates


@pytest.mark.parametrize(
    "purposes",
    [
        [ExtendedKeyUsageOID.SERVER_AUTH],
        [ExtendedKeyUsageOID.CLIENT_AUTH],
        [ExtendedKeyUsageOID.CODE_SIGNING],
        [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
    ],
)
def test_a_leaf_that_is_not_for_both_sides_of_tls_is_refused(
    purposes: list[x509.ObjectIdentifier],
) -> None:
    with pytest.raises(CertificateRefused, match="lacks server or client auth"):
        _verify(leaf(ROOT, KEY, ID, purposes=purposes))


def test_a_critical_extension_that_nobody_knows_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(ROOT, KEY, ID, unknown_critical=True))


def test_without_a_trusted_root_everything_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="no trusted root"):
        _verify(leaf(ROOT, KEY, ID), ROOT.certificate, roots=[])


def test_a_chain_to_an_unknown_root_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(UNKNOWN, KEY, ID))


def test_a_root_that_the_answer_brings_along_is_not_trusted_for_it() -> None:
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(UNKNOWN, KEY, ID), UNKNOWN.certificate)


def test_a_root_of_the_same_name_with_another_key_is_not_trusted() -> None:
    impostor = root("root")
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(impostor, KEY, ID), impostor.certificate)


def test_a_leaf_whose_signature_is_not_its_issuers_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(ROOT, KEY, ID, signer=certificates.new_key()))


def test_a_self_signed_leaf_is_refused() -> None:
    key = certificates.new_key()
    own = certificates.Signed(ROOT.certificate, key)
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        verified_chain(
            [der(leaf(own, key.public_key(), ID))],
            public_key=key.public_key(),
            spiffe_id=SpiffeId.parse(ID),
            roots=[ROOT.certificate],
            now=START,
        )


def test_a_missing_intermediate_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(intermediate(ROOT), KEY, ID), ROOT.certificate)


@pytest.mark.parametrize("ca", [False, None], ids=["says that it is none", "does not say"])
def test_an_intermediate_that_is_no_ca_is_refused(ca: bool | None) -> None:
    no_ca = intermediate(ROOT, ca=ca)
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(no_ca, KEY, ID), no_ca.certificate)


def test_an_intermediate_that_may_not_sign_certificates_is_refused() -> None:
    no_signer = intermediate(ROOT, usages=["digital_signature"])
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(no_signer, KEY, ID), no_signer.certificate)


def test_an_expired_intermediate_is_refused() -> None:
    expired = intermediate(ROOT, not_after_days=-1)
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(expired, KEY, ID), expired.certificate)


def test_an_expired_root_is_refused() -> None:
    expired = root("expired", days=1)
    certificate = leaf(expired, KEY, ID, not_after=timedelta(days=9))
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(certificate, roots=[expired], now=START + timedelta(days=2))


def test_a_chain_longer_than_its_root_allows_is_refused() -> None:
    flat = root("flat", path_length=0)
    middle = intermediate(flat)
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(middle, KEY, ID), middle.certificate, roots=[flat])


def test_a_chain_longer_than_an_intermediate_allows_is_refused() -> None:
    first = intermediate(ROOT, "first", path_length=0)
    second = intermediate(first, "second")
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(second, KEY, ID), second.certificate, first.certificate)


def test_a_chain_of_absurd_length_is_refused() -> None:
    links = [intermediate(ROOT, "0")]
    for number in range(1, 8):
        links.append(intermediate(links[-1], str(number)))
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(links[-1], KEY, ID), *(link.certificate for link in reversed(links)))


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
