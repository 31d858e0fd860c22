"""Bytes from outside become a request or a refusal, never an exception."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.errors import RefusalReason, SigningRefused
from sidecar.signer.requests import MAX_BATCH, MAX_MESSAGE_BYTES, decoder
from tests.fixtures.requests import sign_request

decode_sign_request = decoder(pb.SignRequest)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_raise(wire: bytes) -> None:
    decoded = decode_sign_request(wire)
    assert isinstance(decoded, pb.SignRequest | SigningRefused)


@given(st.binary(max_size=64), st.integers(0, 200))
def test_a_damaged_request_never_raises(noise: bytes, place: int) -> None:
    wire = sign_request(b"key").SerializeToString()
    decode_sign_request(wire[:place] + noise + wire[place + len(noise) :])
    decode_sign_request(wire[:place])


def test_a_request_is_decoded_as_it_is() -> None:
    request = sign_request(b"key", request_id=2**64 - 1)
    assert decode_sign_request(request.SerializeToString()) == request


def test_fields_of_a_later_version_are_no_reason_to_refuse() -> None:
    unknown_field = b"\xba\x01\x03new"
    decoded = decode_sign_request(sign_request(b"key").SerializeToString() + unknown_field)
    assert isinstance(decoded, pb.SignRequest)


def test_bytes_that_are_no_request_become_a_refusal() -> None:
    refused = decode_sign_request(b"\xff\xff\xff")
    assert isinstance(refused, SigningRefused)
    assert refused.reason is RefusalReason.MESSAGE
    assert "no SignRequest" in str(refused)


def test_the_longest_request_is_read_and_one_byte_more_is_not() -> None:
    frame = len(pb.SignRequest(message=bytes(200_000)).SerializeToString()) - 200_000
    longest = pb.SignRequest(message=bytes(MAX_MESSAGE_BYTES - frame)).SerializeToString()
    assert len(longest) == MAX_MESSAGE_BYTES
    assert isinstance(decode_sign_request(longest), pb.SignRequest)
    refused = decode_sign_request(longest + b"\0")
    assert isinstance(refused, SigningRefused)
    assert f"{MAX_MESSAGE_BYTES + 1} bytes" in str(refused)


def test_a_batch_of_too_many_requests_is_refused_as_a_whole() -> None:
    decode = decoder(pb.SignRequests)
    full = decode(pb.SignRequests(requests=[pb.SignRequest()] * MAX_BATCH).SerializeToString())
    assert isinstance(full, pb.SignRequests)
    for count in (MAX_BATCH + 1, MAX_MESSAGE_BYTES // 2):
        refused = decode(pb.SignRequests(requests=[pb.SignRequest()] * count).SerializeToString())
        assert isinstance(refused, SigningRefused)
        assert refused.reason is RefusalReason.MESSAGE
        assert str(refused) == f"the message has {count} requests, at most 512 are read"
