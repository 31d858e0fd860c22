"""The messages are Istio's on the wire (security/v1alpha1/ca.proto of istio/api), by the byte."""

from __future__ import annotations

from sidecar._proto.third_party.istio_ca_pb2 import CertificateRequest, CertificateResponse


def test_a_request_is_istios_on_the_wire() -> None:
    request = CertificateRequest(csr="x", validity_duration=3)
    request.metadata["CertSigner"] = "m"
    csr, seconds = b"\x0a\x01x", b"\x18\x03"  # fields 1 and 3
    # Field 4, a Struct: field 1 is a map from keys (1) to values (2), whose field 3 is a string.
    entry = b"\x0a\x0aCertSigner" + b"\x12\x03\x1a\x01m"
    metadata = b"\x22\x13" + b"\x0a\x11" + entry
    assert request.SerializeToString() == csr + seconds + metadata


def test_an_answer_is_istios_on_the_wire() -> None:
    answer = CertificateResponse.FromString(b"\x0a\x04leaf" + b"\x0a\x04root")
    assert list(answer.cert_chain) == ["leaf", "root"]


def test_the_names_are_not_istios() -> None:
    for message in (CertificateRequest, CertificateResponse):
        assert message.DESCRIPTOR.full_name.startswith("meshkey.third_party.istio.")
        assert message.DESCRIPTOR.file.name.startswith("sidecar/_proto/third_party/")
