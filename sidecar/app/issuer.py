"""Assembles the local CA."""

from __future__ import annotations

import structlog

from sidecar._proto.meshkey.ca.v1 import ca_pb2_grpc
from sidecar.admin.observed import Observed
from sidecar.app.clock import wall
from sidecar.app.parts import Parts
from sidecar.config.settings import IssuerSettings
from sidecar.issuer.authority import open_issuer
from sidecar.issuer.service import IssuerService
from sidecar.rpc.sockets import unix_server

log = structlog.get_logger(__name__)


async def start_issuer(parts: Parts, settings: IssuerSettings) -> None:
    """Serves until the parts are taken down."""
    log.warning(
        "serving the local CA: for evaluation only, it signs for whoever reaches its socket",
        trust_domain=settings.trust_domain,
    )
    issuer = await parts.executor.run(
        lambda: open_issuer(
            parts.token,
            settings.key_algorithm,
            settings.trust_domain,
            settings.root_file,
            wall(),
        )
    )
    server = unix_server()
    ca_pb2_grpc.add_CertificateAuthorityServicer_to_server(
        IssuerService(issuer, parts.executor, settings.longest, wall, parts.audit), server
    )
    await parts.start(server, settings.socket, 0o660)
    await parts.start_admin(Observed(parts.token, parts.executor, audit=parts.audit_counts))
