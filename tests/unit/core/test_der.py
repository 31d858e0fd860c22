"""ASN.1 is told from TLS, whatever else it is shaped like."""

from __future__ import annotations

import pytest

from sidecar.core.der import refuse_der
from tests.fixtures import foreign


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(foreign.request(), id="request"),
        pytest.param(foreign.MESSAGES["certificate to be signed"], id="certificate"),
        pytest.param(foreign.revocation_list(), id="revocation list"),
        pytest.param(foreign.ocsp_response(), id="ocsp"),
        pytest.param(foreign.cms_attributes(), id="cms"),
        pytest.param(b"\x30\x00", id="empty"),
        pytest.param(b"\x31\x03\x02\x01\x07", id="set"),
        pytest.param(b"\x30\x82\x00\x03\x02\x01\x07", id="ber length"),
        pytest.param(b"\x30\x05\x02\x01\x07\x05\x00", id="two elements"),
        pytest.param(b"\x30\x7f" + b"\x04\x7d" + bytes(125), id="longest short form"),
        pytest.param(b"\x30\x81\x83" + b"\x04\x81\x80" + bytes(128), id="shortest long form"),
    ],
)
def test_a_whole_sequence_or_set_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"is ASN\.1"):
        refuse_der(message)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x30", id="a tag"),
        pytest.param(b"\x30\x04\x02\x01\x07", id="too long a length"),
        pytest.param(b"\x30\x02\x02\x01\x07", id="too short a length"),
        pytest.param(b"\x02\x01\x07", id="a number"),
        pytest.param(b"\x30\x03\x02\x02\x07", id="an element beyond the end"),
        pytest.param(b"\x30\x04\x02\x01\x07\x05", id="half an element"),
        pytest.param(b"\x30\x02\x00\x00", id="end of contents"),
        pytest.param(b"\x30\x04\x1f\x81\x01\x00", id="a tag of several bytes"),
        pytest.param(b"\x30\x80\x02\x01\x07\x00\x00", id="an indefinite length"),
        pytest.param(b"\x30\x84\x00\x00", id="half a length"),
        pytest.param(b"\x30\xff" + b"\xff" * 127, id="a length beyond every memory"),
    ],
)
def test_anything_else_is_not_its_business(message: bytes) -> None:
    refuse_der(message)
