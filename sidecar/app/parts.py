"""What every process of ours has: a token, sockets, and an end at which all is taken down."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import structlog

from sidecar._proto.meshkey.admin.v1 import admin_pb2_grpc
from sidecar.admin.observed import Observed
from sidecar.admin.service import AdminService, ObserverService
from sidecar.app.behind_proxy import Front, serve_behind_proxy
from sidecar.app.clock import wall
from sidecar.app.reload import Reload
from sidecar.app.start import KeptApart
from sidecar.app.token import open_token
from sidecar.audit.base import NoAudit
from sidecar.audit.log import AuditLog
from sidecar.callers.accept_proxy import Door
from sidecar.callers.admin_door import AdminDoor
from sidecar.callers.commanders import Commanders
from sidecar.callers.forwarded import Forwarded
from sidecar.config.settings import Settings
from sidecar.deny.base import NO_DENIALS, Denials
from sidecar.rpc.descriptors import make_room_for_descriptors
from sidecar.rpc.sockets import bind, unix_server
from sidecar.telemetry import AuditCounts
from sidecar.token.executor import TokenExecutor

log = structlog.get_logger(__name__)

# How long running calls may take to end after a request to stop.
_GRACE_S = 1.0


class Parts:
    """Opens the token and starts servers; the stack takes them down in reverse order."""

    def __init__(
        self, settings: Settings, read: Callable[[], Settings], stack: AsyncExitStack
    ) -> None:
        self.settings = settings
        self.stack = stack
        make_room_for_descriptors()
        self.token = open_token(settings.token)
        stack.callback(self.token.close)
        log.info("token opened", **self.token.report.summary())
        threads = min(settings.token.threads, self.token.concurrency)
        # Replaced before anything happens, where an audit log is configured.
        self.audit_counts = AuditCounts()
        self.audit: AuditLog | NoAudit = NoAudit()
        # Replaced before there are identities, where a deny list is configured.
        self.denials: Denials = NO_DENIALS
        self.reload = Reload(settings, read, lambda: self.audit)
        self.executor = TokenExecutor(threads, settings.token.backlog)
        stack.callback(self.executor.close)
        signer = settings.signer
        self.admin_door = AdminDoor(
            os.geteuid(),
            (rule.uid for rule in settings.callers),
            allow_own_user=signer is not None and signer.allow_own_user,
        )
        self.reload.register(KeptApart(self.admin_door))

    async def start(
        self, server: grpc.aio.Server, path: Path, mode: int, group: int | None = None
    ) -> None:
        """Serves on a Unix socket until the end."""
        bind(server, path, mode, group)
        await server.start()
        self.stack.push_async_callback(server.stop, _GRACE_S)
        log.info("serving", socket=str(path))

    async def serve_handlers(self, path: Path, *handlers: grpc.GenericRpcHandler) -> None:
        """The same for callers, who share the socket's group."""
        server = unix_server()
        server.add_generic_rpc_handlers(handlers)
        await self.start(server, path, 0o660, self._group)

    async def serve_behind_proxy(
        self, path: Path, forwarded: Forwarded, door: Door, *handlers: grpc.GenericRpcHandler
    ) -> None:
        """The same for clients that cannot bind a name; `forwarded` then knows each of them.

        `door` says who may connect.
        """
        server = unix_server()
        server.add_generic_rpc_handlers(handlers)
        front = Front(path, 0o660, door, self._group)
        await serve_behind_proxy(self.stack, front, server, forwarded, self.audit, _GRACE_S)

    @property
    def _group(self) -> int | None:
        """The callers'."""
        return self.settings.signer.group if self.settings.signer else None

    async def start_admin(self, seen: Observed) -> None:
        """Metrics, status and commands, where they are configured."""
        await self._start_metrics(seen)
        if (admin := self.settings.admin) is None:
            return
        server = unix_server()
        admin_pb2_grpc.add_ObserverServicer_to_server(ObserverService(seen), server)
        forwarded = Forwarded()
        who = Commanders(forwarded).process
        commands = AdminService(seen.registry, self.reload, who, self.audit)
        admin_pb2_grpc.add_AdminServicer_to_server(commands, server)
        front = Front(admin.socket, 0o600, self.admin_door)
        await serve_behind_proxy(self.stack, front, server, forwarded, self.audit, _GRACE_S)
        if admin.read_only:
            server = unix_server()
            admin_pb2_grpc.add_ObserverServicer_to_server(ObserverService(seen), server)
            await self.start(server, admin.read_only, 0o660)

    async def _start_metrics(self, seen: Observed) -> None:
        if (metrics := self.settings.metrics) is None:
            return
        from sidecar.admin.metrics import Numbers
        from sidecar.admin.metrics_server import MetricsServer

        address = metrics.address and (metrics.address.host, metrics.address.port)
        place = metrics.socket or address
        assert place
        self.stack.callback(await MetricsServer(Numbers(seen, wall)).start(place))
        log.info("serving metrics", address=str(metrics.socket or metrics.address))

    def in_background(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Cancels the task at the end."""
        self.stack.callback(task.cancel)
        return task
