"""The gRPC service of proto/meshkey/ca/v1."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256

import grpc.aio
import structlog

from sidecar._proto.meshkey.ca.v1 import ca_pb2, ca_pb2_grpc
from sidecar.core.journal import NOWHERE, Journal
from sidecar.errors import MeshkeyError
from sidecar.issuer.authority import LocalIssuer
from sidecar.rpc.status import status_of
from sidecar.token.executor import TokenExecutor

log = structlog.get_logger(__name__)

_Context = grpc.aio.ServicerContext[ca_pb2.IssueRequest, ca_pb2.IssueResponse]


class IssuerService(ca_pb2_grpc.CertificateAuthorityServicer):
    """Issue."""

    def __init__(
        self,
        issuer: LocalIssuer,
        executor: TokenExecutor,
        longest: timedelta,
        now: Callable[[], datetime],
        journal: Journal = NOWHERE,
    ) -> None:
        self._issuer = issuer
        self._executor = executor
        self._longest = longest
        self._now = now
        self._journal = journal
        self.issued = 0

    async def Issue(self, request: ca_pb2.IssueRequest, context: _Context) -> ca_pb2.IssueResponse:
        wished = timedelta(seconds=min(max(request.lifetime, 0), 10**9))
        try:
            chain = await self._executor.run(
                lambda: self._issuer.issue(request.csr, wished, self._longest, self._now())
            )
        except MeshkeyError as error:
            log.warning("certificate refused", error=str(error))
            await context.abort(status_of(error), str(error))
        self.issued += 1
        log.info("certificate issued")
        self._journal.record("certificate issued", certificate_sha256=sha256(chain[0]).hexdigest())
        return ca_pb2.IssueResponse(certificate_chain=chain)
