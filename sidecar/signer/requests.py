"""Reads sign requests off the wire so that a bad one costs itself, not its stream."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.errors import RefusalReason, SigningRefused

# The longest message that a purpose allows is 146 bytes; the rest is room for the fields.
MAX_REQUEST_BYTES = 64 * 1024

DecodedRequest = pb.SignRequest | SigningRefused


def decode_sign_request(wire: bytes) -> DecodedRequest:
    """Decodes one request. Never raises: gRPC would end the stream for an exception.

    A request that is too long or no SignRequest comes back as the refusal to answer it
    with. Its request_id is not believed, so that answer carries 0.
    """
    if len(wire) > MAX_REQUEST_BYTES:
        return SigningRefused(
            RefusalReason.MESSAGE,
            f"the request has {len(wire)} bytes, at most {MAX_REQUEST_BYTES} are read",
        )
    try:
        return pb.SignRequest.FromString(wire)
    except DecodeError:
        return SigningRefused(RefusalReason.MESSAGE, "the request is no SignRequest message")
