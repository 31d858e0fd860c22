"""Reads discovery requests off the wire, and says which of them are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from sidecar._proto.third_party import envoy_sds_pb2 as pb
from sidecar.errors import DiscoveryRefused
from sidecar.sds.names import shown
from sidecar.sds.resources import SECRET

# A node's identifier is kept as long as its stream, to be named in the log.
_MAX_NODE = 100
# The first request describes the proxy, which Istio's do at length.
MAX_MESSAGE_BYTES = 1024 * 1024

_M = TypeVar("_M", bound=Message)


def decoder(kind: type[_M]) -> Callable[[bytes], _M | DiscoveryRefused]:
    """Decodes messages of one kind. Never raises: gRPC would log a bug for a caller's mistake."""

    def decode(wire: bytes) -> _M | DiscoveryRefused:
        if len(wire) > MAX_MESSAGE_BYTES:
            return DiscoveryRefused(
                f"the request has {len(wire)} bytes, at most {MAX_MESSAGE_BYTES} are read"
            )
        try:
            return kind.FromString(wire)
        except DecodeError:
            return DiscoveryRefused(f"what came is no {kind.__name__} message")

    return decode


def node_of(request: pb.DiscoveryRequest | pb.DeltaDiscoveryRequest) -> str:
    """Whose request it is, or the beginning of that. Only the first of a stream says it."""
    return request.node.id[:_MAX_NODE]


def require_secrets(type_url: str) -> None:
    """Raises `DiscoveryRefused` where something else than secrets is asked for."""
    # Empty is allowed: the service has one type only.
    if type_url not in {"", SECRET}:
        raise DiscoveryRefused(f"type {shown(type_url)} is not served here; ask for {SECRET}")
