"""Client of meshkey's own issuer, over its Unix socket."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import grpc.aio

from sidecar._proto.meshkey.ca.v1 import ca_pb2, ca_pb2_grpc
from sidecar.errors import AuthorityError, AuthorityUnavailable

_DEADLINE = timedelta(seconds=10)
_RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
}


class LocalAuthority:
    """`CertificateAuthority` over `meshkey.ca.v1`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ca_pb2_grpc.CertificateAuthorityStub(channel)

    async def sign(self, csr: bytes, lifetime: timedelta) -> Sequence[bytes]:
        request = ca_pb2.IssueRequest(csr=csr, lifetime=int(lifetime.total_seconds()))
        try:
            answer = await self._stub.Issue(request, timeout=_DEADLINE.total_seconds())
        except grpc.aio.AioRpcError as error:
            kind = AuthorityUnavailable if error.code() in _RETRYABLE else AuthorityError
            raise kind(f"local CA: {error.code().name}: {error.details()}") from error
        if answer is None:  # gRPC's way to say that it is no such message
            raise AuthorityError("local CA: its answer cannot be decoded")
        return list(answer.certificate_chain)
