"""What is read of an answer, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar._proto.third_party import istio_ca_pb2
from sidecar.ca.istio_answer import certificates_in
from sidecar.errors import AuthorityError
from tests.fixtures import certificates

ROOT = certificates.root()
INTERMEDIATE = certificates.intermediate(ROOT)
FIRST, LAST = INTERMEDIATE.pem.decode(), ROOT.pem.decode()
BROKEN = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"


def _read(*elements: str) -> list[bytes]:
    answer = istio_ca_pb2.CertificateResponse(cert_chain=elements)
    return certificates_in(answer.SerializeToString(), "CA")


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param([FIRST, LAST], id="one each"),
        pytest.param([FIRST.rstrip("\n"), "\n" + LAST], id="line breaks"),
        pytest.param([f"subject: x\n{FIRST}", LAST], id="text between"),
    ],
)
def test_a_chain_is_read_in_order(elements: list[str]) -> None:
    assert _read(*elements) == [INTERMEDIATE.der, ROOT.der]


def test_an_element_may_hold_several() -> None:
    assert _read(FIRST + LAST, LAST) == [INTERMEDIATE.der, ROOT.der, ROOT.der]


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        pytest.param([], "has 0 elements", id="empty"),
        pytest.param([FIRST + LAST], "has 1 elements", id="one element"),
        pytest.param(["", LAST], "no PEM certificate", id="empty leaf"),
        pytest.param([FIRST, ""], "no PEM certificate", id="empty root"),
        pytest.param([FIRST, "garbage"], "no PEM certificate", id="garbage"),
        pytest.param([FIRST, LAST[:-40]], "no PEM certificate", id="cut off"),
        pytest.param([FIRST + LAST[:-40], LAST], "no PEM certificate", id="cut off after one"),
        pytest.param([FIRST + BROKEN, LAST], "no PEM certificate", id="no DER"),
        pytest.param([FIRST] * 33, "33 certificates, more than 32", id="too many"),
        pytest.param([FIRST * 32, LAST], "33 certificates, more than 32", id="too many in one"),
    ],
)
def test_anything_else_is_refused(elements: list[str], reason: str) -> None:
    with pytest.raises(AuthorityError, match=f"^CA: its answer .*{reason}"):
        _read(*elements)


@pytest.mark.parametrize("answer", [b"\xff", b"\x0a\x05abc", b"\x0a\x01\xff"])
def test_what_is_no_message_is_refused(answer: bytes) -> None:
    with pytest.raises(AuthorityError, match="its answer cannot be decoded"):
        certificates_in(answer, "CA")


@given(st.binary())
def test_any_bytes_are_read_or_refused(answer: bytes) -> None:
    with pytest.raises(AuthorityError):
        certificates_in(answer, "CA")


@given(st.lists(st.text(), min_size=2).map(lambda texts: [BROKEN + text for text in texts]))
def test_any_text_is_read_or_refused(texts: list[str]) -> None:
    with pytest.raises(AuthorityError):
        _read(*texts)
