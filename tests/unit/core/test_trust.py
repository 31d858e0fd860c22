"""Trust bundles."""

from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused
from tests.fixtures import certificates

ONE, TWO = certificates.root("one"), certificates.root("two")
_KEY = certificates.new_key().public_key()
LEAF = certificates.Signed(certificates.leaf(ONE, _KEY, "spiffe://a/b"), ONE.key)
UNMARKED = certificates.Signed(certificates.leaf(ONE, _KEY, ca=None), ONE.key)


def test_a_bundle_holds_every_root_of_the_file_in_its_order() -> None:
    bundle = TrustBundle.parse("demo.mesh", b"# roots\n" + ONE.pem + TWO.pem)
    assert bundle.trust_domain == "demo.mesh"
    assert bundle.der() == [ONE.der, TWO.der]


@pytest.mark.parametrize(
    "pem", [b"", b"no PEM", ONE.der, ONE.pem[:-40], ONE.pem.replace(b"M", b"!")]
)
def test_a_file_without_a_readable_certificate_is_refused(pem: bytes) -> None:
    with pytest.raises(CertificateRefused, match="no readable PEM certificate"):
        TrustBundle.parse("demo.mesh", pem)


@pytest.mark.parametrize("left", range(1, len(TWO.pem) - len(b"-----BEGIN"), 15))
def test_half_a_certificate_at_the_end_spoils_the_bundle(left: int) -> None:
    with pytest.raises(CertificateRefused, match="only a part of one"):
        TrustBundle.parse("demo.mesh", ONE.pem + TWO.pem[: -left - 1])


def test_a_block_that_the_parser_skips_spoils_the_bundle() -> None:
    skipped = TWO.pem.replace(b"-----END", b"------END")
    with pytest.raises(CertificateRefused, match="only a part of one"):
        TrustBundle.parse("demo.mesh", ONE.pem + skipped)


@pytest.mark.parametrize("label", [b"PRIVATE KEY", b"EC PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"])
@pytest.mark.parametrize("ends", [True, False], ids=["a whole one", "the beginning of one"])
def test_a_private_key_in_a_bundle_is_called_by_its_name(label: bytes, ends: bool) -> None:
    key = ONE.pem.replace(b"CERTIFICATE", label)
    with pytest.raises(CertificateRefused, match="a private key lies in the trust bundle"):
        TrustBundle.parse("demo.mesh", ONE.pem + (key if ends else key[:-40]))


@pytest.mark.parametrize("label", ["X509 CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CRL"])
def test_any_other_block_spoils_the_bundle(label: str) -> None:
    other = ONE.pem.replace(b"CERTIFICATE", label.encode())
    with pytest.raises(CertificateRefused, match=f"a PEM block '{label}'"):
        TrustBundle.parse("demo.mesh", ONE.pem + other)


def test_a_root_that_is_there_twice_counts_once() -> None:
    bundle = TrustBundle.parse("demo.mesh", ONE.pem + TWO.pem + ONE.pem)
    assert bundle.der() == [ONE.der, TWO.der]


def test_no_root_is_no_bundle() -> None:
    with pytest.raises(CertificateRefused, match="is empty"):
        TrustBundle.of("demo.mesh", [])


def test_a_root_without_key_usage_is_accepted() -> None:
    plain = certificates.intermediate(ONE, usages=None)
    assert TrustBundle.parse("demo.mesh", plain.pem).der() == [plain.der]


def test_a_root_that_may_not_sign_certificates_is_refused() -> None:
    other = certificates.intermediate(ONE, usages=["digital_signature", "crl_sign"])
    with pytest.raises(CertificateRefused, match="lacks keyCertSign"):
        TrustBundle.parse("demo.mesh", other.pem)


@pytest.mark.parametrize("other", [LEAF, UNMARKED], ids=["a leaf", "no basic constraints"])
def test_one_certificate_that_is_no_ca_spoils_the_bundle(other: certificates.Signed) -> None:
    with pytest.raises(CertificateRefused, match="is no CA"):
        TrustBundle.parse("demo.mesh", ONE.pem + other.pem)


@given(st.binary(max_size=300) | st.integers(0, len(ONE.pem)).map(lambda n: ONE.pem[:n] + b"!"))
def test_arbitrary_bytes_never_raise_anything_else(pem: bytes) -> None:
    with suppress(CertificateRefused):
        TrustBundle.parse("demo.mesh", pem)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=300)
@given(st.integers(0, len(ONE.der) - 1), st.integers(0, 255))
def test_a_changed_byte_in_a_root_raises_nothing_else(place: int, value: int) -> None:
    changed = bytearray(ONE.der)
    changed[place] = value
    pem = b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n"
    with suppress(CertificateRefused):
        TrustBundle.parse("demo.mesh", pem % base64.b64encode(changed))
