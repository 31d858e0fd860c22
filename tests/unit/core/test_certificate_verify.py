"""The one thing that is ever signed for a caller (RFC 8446 section 4.4.3)."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.certificate_verify import CertificateVerifyContent, Side
from tests.fixtures import certificates

sides = st.sampled_from(Side)
transcript_hashes = st.binary(min_size=32, max_size=32) | st.binary(min_size=48, max_size=48)
contents = st.builds(CertificateVerifyContent, sides, transcript_hashes)

_PREFIX_BYTES = 64 + 33 + 1


def test_the_example_of_the_rfc_is_accepted() -> None:
    # RFC 8446 section 4.4.3: transcript hash of 32 bytes of 01, server.
    example = bytes.fromhex(
        "20" * 64 + "544c5320312e332c2073657276657220436572746966696361746556657269667900"
        "" + "01" * 32
    )
    content = CertificateVerifyContent.parse(example, Side.SERVER)
    assert content.transcript_hash == b"\x01" * 32
    assert len(example) == 130


@given(contents)
def test_what_is_encoded_is_parsed_back(content: CertificateVerifyContent) -> None:
    message = content.encode()
    assert len(message) in {130, 146}
    assert CertificateVerifyContent.parse(message, content.side) == content


@given(contents)
def test_the_other_sides_content_is_refused(content: CertificateVerifyContent) -> None:
    (other,) = set(Side) - {content.side}
    with pytest.raises(ValueError, match="the other side's"):
        CertificateVerifyContent.parse(content.encode(), other)


@given(contents, st.integers(0, _PREFIX_BYTES * 8 - 1))
def test_any_bit_changed_before_the_hash_is_refused(
    content: CertificateVerifyContent, bit: int
) -> None:
    message = bytearray(content.encode())
    message[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match=r"message|context string"):
        CertificateVerifyContent.parse(bytes(message), content.side)


@given(sides, st.binary(max_size=200).filter(lambda h: len(h) not in {32, 48}))
def test_a_hash_of_any_other_length_is_refused(side: Side, transcript_hash: bytes) -> None:
    message = CertificateVerifyContent(side, transcript_hash).encode()
    with pytest.raises(ValueError, match=f"has {len(transcript_hash)} bytes"):
        CertificateVerifyContent.parse(message, side)


@given(contents, st.integers(0, 145))
def test_a_message_cut_short_is_refused(content: CertificateVerifyContent, length: int) -> None:
    message = content.encode()
    # A hash of 48 bytes cut to 32 is a whole message again.
    if length in {len(message), 130} or length > len(message):
        return
    with pytest.raises(ValueError, match=r"message|context string|transcript hash"):
        CertificateVerifyContent.parse(message[:length], content.side)


@given(st.binary(max_size=300), sides)
def test_arbitrary_bytes_are_refused(message: bytes, side: Side) -> None:
    with pytest.raises(ValueError, match="64 spaces"):
        CertificateVerifyContent.parse(message, side)


def _to_be_signed_of_a_csr() -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(certificates.new_key(), hashes.SHA256()).tbs_certrequest_bytes


def _to_be_signed_of_a_certificate() -> bytes:
    return certificates.root().certificate.tbs_certificate_bytes


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(_to_be_signed_of_a_csr(), id="csr"),
        pytest.param(_to_be_signed_of_a_certificate(), id="certificate"),
        pytest.param(certificates.root().certificate.public_bytes(Encoding.DER), id="der"),
        pytest.param(b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzcGlmZmU6Ly9hL2IifQ", id="jwt"),
        pytest.param(b"\x20" * 64 + b"TLS 1.3, server CertificateVerify" + b"\x01" * 33, id="zero"),
        pytest.param(b"\x20" * 64 + b"TLS 1.3, Server CertificateVerify\0" + bytes(32), id="case"),
        pytest.param(b"\x20" * 63 + b"TLS 1.3, server CertificateVerify\0" + bytes(33), id="63"),
        pytest.param(b"\x20" * 65 + b"TLS 1.3, server CertificateVerify\0" + bytes(31), id="65"),
        pytest.param(b"\x20" * 64 + b"TLS 1.3, delegated credentials\0" + bytes(32), id="rfc9345"),
        pytest.param(bytes(32), id="digest"),
        pytest.param(b"", id="nothing"),
    ],
)
@pytest.mark.parametrize("side", Side)
def test_other_things_that_keys_sign_are_refused(message: bytes, side: Side) -> None:
    with pytest.raises(ValueError, match=r"message|context string|transcript hash"):
        CertificateVerifyContent.parse(message, side)


def test_the_refusal_holds_no_bytes_of_the_message() -> None:
    secret = "payload-of-the-caller"
    for message in (secret.encode(), b"\x20" * 64 + secret.encode()):
        with pytest.raises(ValueError, match=r"message|context") as refused:
            CertificateVerifyContent.parse(message, Side.SERVER)
        assert secret not in str(refused.value)
