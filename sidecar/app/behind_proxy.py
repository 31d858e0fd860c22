"""Starts a server whose clients come through an accept proxy."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import structlog

from sidecar.callers.accept_proxy import AcceptProxy, Door
from sidecar.callers.forwarded import Forwarded
from sidecar.core.journal import Journal
from sidecar.private_directory import require_private
from sidecar.rpc.sockets import bind, unix_listener

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Front:
    """What clients see: the socket that they connect to, and who may."""

    path: Path
    mode: int
    door: Door
    group: int | None = None


async def serve_behind_proxy(
    stack: AsyncExitStack,
    front: Front,
    server: grpc.aio.Server,
    forwarded: Forwarded,
    journal: Journal,
    grace_s: float,
) -> None:
    """Serves until `stack` ends; calls then have `grace_s` seconds to come to their end.

    Raises:
        ConfigurationError: the directory of the inner socket is not ours alone.
        StartFailed: another process serves there, or the directory is missing.
    """
    inner = _inner(front.path)
    stack.callback(inner.parent.rmdir)
    listener = unix_listener(front.path, front.mode, front.group)
    stack.callback(front.path.unlink, missing_ok=True)
    proxy = AcceptProxy(inner, forwarded, front.door, journal)
    accepting = asyncio.create_task(proxy.run(listener))
    stack.push_async_callback(_ended, accepting)
    # Taken down before the proxy, through which its calls come to their end.
    bind(server, inner, 0o600)
    await server.start()
    stack.push_async_callback(server.stop, grace_s)
    log.info("serving", socket=str(front.path))


def _inner(path: Path) -> Path:
    """In a directory that no other user can look into, which a dead process may have left."""
    # Short, as a socket's path has 107 bytes.
    directory = path.with_name(f".{path.name}")
    require_private(directory, "the directory of the socket behind a proxy,")
    return directory / "s"


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
