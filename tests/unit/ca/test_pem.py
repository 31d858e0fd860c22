"""Certificates in PEM, all or nothing."""

from __future__ import annotations

import pytest

from sidecar.ca.pem import certificates
from tests.fixtures.certificates import root

FIRST, SECOND = root("first"), root("second")
_KEY = b"-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"


def test_all_are_read_in_order() -> None:
    pem = b"a text\n" + FIRST.pem + b"between\n" + SECOND.pem + b"\n"
    assert certificates(pem) == [FIRST.certificate, SECOND.certificate]


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"garbage", id="garbage"),
        pytest.param(FIRST.der, id="DER"),
        pytest.param(FIRST.pem + SECOND.pem[:-40], id="half written"),
        pytest.param(FIRST.pem[:-40] + SECOND.pem, id="without an end"),
        pytest.param(FIRST.pem + _KEY, id="with a key"),
        pytest.param(FIRST.pem.replace(b"M", b"!", 1), id="no base64"),
        pytest.param(_KEY.replace(b"PUBLIC KEY", b"CERTIFICATE"), id="no certificate"),
    ],
)
def test_anything_else_is_refused_as_a_whole(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r"no readable certificate|something else"):
        certificates(pem)
