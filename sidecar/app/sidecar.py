"""Assembles a sidecar: its identities, and who is served with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import grpc
import structlog

from sidecar.admin.observed import Observed
from sidecar.app.authorities import authorities_of
from sidecar.app.callers import KnownCallers, start_callers
from sidecar.app.deny_list import follow_deny_list, open_deny_list
from sidecar.app.identities import Assembly
from sidecar.app.parts import Parts
from sidecar.app.reload import Rates
from sidecar.identity.identity import Identity
from sidecar.identity.orphans import Orphans
from sidecar.identity.registry import IdentityRegistry
from sidecar.sds.names import RootValidator
from sidecar.sds.service import SdsService
from sidecar.sds.watched import RefusedCertificates
from sidecar.signer.quota import Quota
from sidecar.signer.service import SignerService
from sidecar.signer.signatures import Signatures
from sidecar.telemetry import SigningCounts

log = structlog.get_logger(__name__)

# How long the token may take to destroy the keys at the end.
_DESTRUCTION_S = 3.0


async def start_sidecar(parts: Parts) -> list[asyncio.Task[None]]:
    """Serves until the parts are taken down; the tasks end only when something is wrong."""
    settings = parts.settings
    known, running = await start_callers(parts)
    deny_list = await open_deny_list(parts)
    authorities = await authorities_of(settings.authorities, parts.stack)
    identities = []
    for name, identity_settings in settings.identities.items():
        assembly = Assembly(name, identity_settings, parts, authorities)
        identity = await assembly.identity()
        parts.stack.push_async_callback(_close, identity)
        running.append(parts.in_background(asyncio.create_task(identity.run())))
        sweep = _sweep(identity, assembly.orphans(identity))
        parts.in_background(asyncio.create_task(sweep))
        identities.append(identity)
    if deny_list:
        running.append(follow_deny_list(parts, deny_list, identities))
    registry = IdentityRegistry(identities)
    seen = Observed(
        parts.token,
        parts.executor,
        registry,
        authorities,
        audit=parts.audit_counts,
        own_user_allowed=settings.signer is not None and settings.signer.allow_own_user,
        deny_list=deny_list,
    )
    await _serve_signatures(parts, identities, seen.signing, known)
    if settings.sds:
        service = SdsService(
            registry,
            seen.sds,
            settings.sds.file_roots,
            RootValidator(settings.sds.root_validator),
            known.callers,
            refused_certificates=RefusedCertificates(settings.sds.refused_certificates),
        )
        await _serve_behind_proxy(parts, known, settings.sds.socket, service.handler())
    await parts.start_admin(seen)
    return running


async def _serve_signatures(
    parts: Parts, identities: Sequence[Identity], counts: SigningCounts, known: KnownCallers
) -> None:
    """Each socket knows the identities that are served on it, and no others."""
    settings = parts.settings
    assert settings.signer
    # Of all sockets together: a process is the same on each.
    quota = Quota(settings.signer.caller_rate, settings.signer.key_rate)
    parts.reload.register(Rates(quota))
    sockets: dict[Path, list[Identity]] = {}
    for identity in identities:
        gateway = settings.gateways.get(identity.name)
        path = (gateway and gateway.socket) or settings.signer.socket
        sockets.setdefault(path, []).append(identity)
    for path, served in sockets.items():
        registry = IdentityRegistry(served)
        signatures = Signatures(
            registry,
            parts.token,
            parts.executor,
            settings.token.patience,
            counts,
            audit=parts.audit,
            quota=quota,
        )
        service = SignerService(registry, signatures, known.callers)
        await parts.serve_handlers(path, service.handler())
        if settings.signer.proxy and path == settings.signer.socket:
            await _serve_behind_proxy(parts, known, settings.signer.proxy, service.handler())


async def _serve_behind_proxy(
    parts: Parts, known: KnownCallers, path: Path, handler: grpc.GenericRpcHandler
) -> None:
    await parts.serve_behind_proxy(path, known.forwarded, known.door, handler)


async def _sweep(identity: Identity, orphans: Orphans) -> None:
    # Not before it is decided which of them is taken up again.
    await identity.begun.wait()
    await orphans.sweep()


async def _close(identity: Identity) -> None:
    try:
        async with asyncio.timeout(_DESTRUCTION_S):
            await identity.close()
    except TimeoutError:
        # A later start finds them, if it has the same name.
        log.error("stopping with keys left on the token", identity=identity.name)
