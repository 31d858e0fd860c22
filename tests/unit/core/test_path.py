"""The path to a trusted root, and what is said if there is none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from sidecar.core.chain import CertificateChain, verified_chain
from sidecar.core.path import verified_path
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
    *answer: x509.Certificate,
    roots: Sequence[certificates.Signed] = (ROOT,),
    now: datetime = START,
) -> CertificateChain:
    return verified_chain(
        [der(part) for part in answer],
        public_key=KEY,
        spiffe_id=SpiffeId.parse(ID),
        roots=[trusted.certificate for trusted in roots],
        now=now,
    )


def test_a_critical_extension_that_nobody_knows_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        _verify(leaf(ROOT, KEY, ID, unknown_critical=True))


def test_without_a_trusted_root_everything_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="no trusted root"):
        _verify(leaf(ROOT, KEY, ID), ROOT.certificate, roots=[])


def test_a_chain_to_an_unknown_root_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="trusted root: it ends below 'CN=unknown', whose"):
        _verify(leaf(UNKNOWN, KEY, ID))


def test_a_root_that_the_answer_brings_along_is_not_trusted_for_it() -> None:
    with pytest.raises(CertificateRefused, match="trusted root: it ends below 'CN=unknown', whose"):
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
    with pytest.raises(CertificateRefused, match="trusted root: it ends below 'CN=intermediate', "):
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
    with pytest.raises(CertificateRefused, match=r"the intermediate 'CN=intermediate' is valid .*"):
        _verify(leaf(expired, KEY, ID), expired.certificate)


def test_an_expired_root_is_refused() -> None:
    expired = root("expired", days=1)
    certificate = leaf(expired, KEY, ID, not_after=timedelta(days=9))
    message = (
        r"root: the root 'CN=expired' is valid from .* to 2030-01-02T12.*, it is 2030-01-03T12"
    )
    with pytest.raises(CertificateRefused, match=message):
        _verify(certificate, roots=[expired], now=START + timedelta(days=2))


def test_an_expired_root_above_an_intermediate_is_told_by_its_name() -> None:
    expired = root("expired", days=1)
    middle = intermediate(expired)
    certificate = leaf(middle, KEY, ID, not_after=timedelta(days=9))
    with pytest.raises(CertificateRefused, match="the root 'CN=expired' is valid from"):
        _verify(
            certificate,
            middle.certificate,
            roots=[ROOT, expired],
            now=START + timedelta(days=2),
        )


def test_an_expired_root_that_has_nothing_to_do_with_it_is_not_blamed() -> None:
    expired = root("unknown", days=1)
    certificate = leaf(UNKNOWN, KEY, ID, not_after=timedelta(days=9))
    with pytest.raises(CertificateRefused, match="ends below 'CN=unknown'"):
        _verify(certificate, roots=[expired, ROOT], now=START + timedelta(days=2))


@pytest.mark.parametrize(
    "constraints",
    [
        x509.NameConstraints([x509.UniformResourceIdentifier("demo.mesh")], None),
        x509.NameConstraints([x509.UniformResourceIdentifier("other.mesh")], None),
        x509.NameConstraints(None, [x509.UniformResourceIdentifier("demo.mesh")]),
    ],
    ids=["permitted", "another permitted", "excluded"],
)
@pytest.mark.parametrize("critical", [True, False])
def test_uri_name_constraints_are_refused_whether_they_fit_or_not(
    constraints: x509.NameConstraints, critical: bool
) -> None:
    constrained = intermediate(ROOT, extensions=[(constraints, critical)])
    with pytest.raises(CertificateRefused, match="unsupported name constraint"):
        _verify(leaf(constrained, KEY, ID), constrained.certificate)


def test_name_constraints_on_dns_names_bind_dns_names() -> None:
    constraints = x509.NameConstraints([x509.DNSName("demo.svc")], None)
    constrained = intermediate(ROOT, extensions=[(constraints, True)])
    inside, outside = (
        leaf(constrained, KEY, ID, dns=[name]) for name in ("web.demo.svc", "web.other.svc")
    )
    assert _verify(inside, constrained.certificate).certificates
    with pytest.raises(CertificateRefused, match="no permitted name constraints matched"):
        _verify(outside, constrained.certificate)


def test_an_issuer_with_a_critical_extension_that_nobody_knows_is_refused() -> None:
    odd = intermediate(ROOT, extensions=[(certificates.UNKNOWN_EXTENSION, True)])
    with pytest.raises(CertificateRefused, match="unaccounted-for critical extensions"):
        _verify(leaf(odd, KEY, ID), odd.certificate)
    fine = intermediate(ROOT, extensions=[(certificates.UNKNOWN_EXTENSION, False)])
    assert _verify(leaf(fine, KEY, ID), fine.certificate).certificates


def test_an_ed25519_root_vouches_for_nobody_and_is_in_nobodys_way() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    unusual = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START - timedelta(days=1))
        .not_valid_after(START + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    ).sign(key, None)
    roots = [unusual, ROOT.certificate]
    assert verified_path(leaf(ROOT, KEY, ID), [], roots, START)[-1] == ROOT.certificate
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        verified_path(leaf(ROOT, KEY, ID), [], [unusual], START)


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
