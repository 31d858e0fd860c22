"""Reads sign requests off the wire so that a malformed one does not end its stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.errors import RefusalReason, SigningRefused

# A full batch of the Envoy module has a quarter of this.
MAX_MESSAGE_BYTES = 256 * 1024
# Requests in one message. Empty ones have two bytes: so many would stall the event loop.
MAX_BATCH = 512

_M = TypeVar("_M", bound=Message)


def decoder(kind: type[_M]) -> Callable[[bytes], _M | SigningRefused]:
    """Decodes messages of one kind. Never raises: gRPC would end the call for an exception.

    What is too long or no such message comes back as the refusal to answer it with.
    """

    def decode(wire: bytes) -> _M | SigningRefused:
        if len(wire) > MAX_MESSAGE_BYTES:
            return SigningRefused(
                RefusalReason.MESSAGE,
                f"the message has {len(wire)} bytes, at most {MAX_MESSAGE_BYTES} are read",
            )
        try:
            message = kind.FromString(wire)
        except DecodeError:
            return SigningRefused(RefusalReason.MESSAGE, f"what came is no {kind.__name__} message")
        if isinstance(message, pb.SignRequests) and len(message.requests) > MAX_BATCH:
            return SigningRefused(
                RefusalReason.MESSAGE,
                f"the message has {len(message.requests)} requests, at most {MAX_BATCH} are read",
            )
        return message

    return decode
