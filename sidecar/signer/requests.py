"""Reads sign requests off the wire so that a malformed one does not end its stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from sidecar.errors import RefusalReason, SigningRefused

# A full batch of the Envoy module has a quarter of this.
MAX_MESSAGE_BYTES = 256 * 1024

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
            return kind.FromString(wire)
        except DecodeError:
            return SigningRefused(RefusalReason.MESSAGE, f"what came is no {kind.__name__} message")

    return decode
