"""Trust bundles."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
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


@pytest.mark.parametrize("other", [LEAF, UNMARKED], ids=["a leaf", "no basic constraints"])
def test_one_certificate_that_is_no_ca_spoils_the_bundle(other: certificates.Signed) -> None:
    with pytest.raises(CertificateRefused, match="is no CA"):
        TrustBundle.parse("demo.mesh", ONE.pem + other.pem)


@given(st.binary(max_size=300) | st.integers(0, len(ONE.pem)).map(lambda n: ONE.pem[:n] + b"!"))
def test_arbitrary_bytes_never_raise_anything_else(pem: bytes) -> None:
    with suppress(CertificateRefused):
        TrustBundle.parse("demo.mesh", pem)
