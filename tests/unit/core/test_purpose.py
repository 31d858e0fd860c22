"""Which purposes an identity's settings allow."""

from __future__ import annotations

import pytest

from sidecar.core.certificate_verify import Side
from sidecar.core.purpose import SigningPurpose, purposes_of

SERVER_12 = SigningPurpose.TLS12_SERVER_KEY_EXCHANGE
CLIENT_12 = SigningPurpose.TLS12_CLIENT_CERTIFICATE_VERIFY
SERVER_13 = SigningPurpose.TLS13_SERVER_CERTIFICATE_VERIFY
CLIENT_13 = SigningPurpose.TLS13_CLIENT_CERTIFICATE_VERIFY


@pytest.mark.parametrize(
    ("sides", "tls12", "purposes"),
    [
        (set(Side), False, {SERVER_13, CLIENT_13}),
        (set(Side), True, {SERVER_13, CLIENT_13, SERVER_12, CLIENT_12}),
        ({Side.SERVER}, False, {SERVER_13}),
        ({Side.SERVER}, True, {SERVER_13, SERVER_12}),
        ({Side.CLIENT}, False, {CLIENT_13}),
        ({Side.CLIENT}, True, {CLIENT_13, CLIENT_12}),
        (set(), True, set()),
    ],
)
def test_a_purpose_needs_its_side_and_its_version(
    sides: set[Side], tls12: bool, purposes: set[SigningPurpose]
) -> None:
    assert purposes_of(sides, tls12=tls12) == purposes
