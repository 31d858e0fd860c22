"""Accepts connections in front of a gRPC server, which cannot tell by itself who connects."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import structlog

from sidecar.callers.credentials import Credentials, Peer
from sidecar.callers.forwarded import Forwarded
from sidecar.callers.passage import passage
from sidecar.callers.refusals import Refusals
from sidecar.core.journal import NOWHERE, Journal
from sidecar.core.process import UNKNOWN, CallingProcess
from sidecar.errors import CallerRefused
from sidecar.rpc.sockets import MAX_CONNECTIONS

log = structlog.get_logger(__name__)

# Raises `CallerRefused` for who may not connect at all; the text is for the log.
Door: TypeAlias = Callable[[Credentials], None]

# Out of descriptors: some may be closed by then.
_AGAIN_S = 1.0


class AcceptProxy:
    """Passes bytes between those who connect and a server, to which it names each of them.

    Each connection to the server has an abstract name of its own, under which `Forwarded` has
    the process that it is for.
    """

    def __init__(
        self,
        inner: Path,
        forwarded: Forwarded,
        door: Door,
        journal: Journal = NOWHERE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`inner` is the server's socket, which no other user may reach; `clock` gives seconds."""
        self._inner = inner
        self._forwarded = forwarded
        self._door = door
        self._refusals = Refusals(journal, clock)
        self._passages: set[asyncio.Task[None]] = set()

    async def run(self, listener: socket.socket) -> None:
        """Accepts from `listener`, which is bound, until it is cancelled; then it closes all."""
        listener.setblocking(False)
        listener.listen(MAX_CONNECTIONS)
        try:
            while True:
                try:
                    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                except OSError as error:
                    log.error("no connection can be accepted", error=str(error))
                    await asyncio.sleep(_AGAIN_S)
                else:
                    self._accept(connection)
                    # Else whoever connects faster than we accept would have the loop for himself.
                    await asyncio.sleep(0)
        finally:
            listener.close()
            for each in self._passages:
                each.cancel()
            await asyncio.gather(*self._passages, return_exceptions=True)

    def _accept(self, connection: socket.socket) -> None:
        process = UNKNOWN
        try:
            credentials = Credentials.of(connection)
            process = CallingProcess(uid=credentials.uid, gid=credentials.gid, pid=credentials.pid)
            self._require_room()
            self._door(credentials)
            # At once: the sooner, the surer that it is still the process that connected.
            peer = Peer.of(connection)
        except (CallerRefused, OSError) as reason:
            self._refusals.tell(process, str(reason))
            connection.close()
            return
        task = asyncio.create_task(self._pass(connection, peer))
        self._passages.add(task)
        task.add_done_callback(self._passages.discard)

    def _require_room(self) -> None:
        if len(self._passages) >= MAX_CONNECTIONS:
            raise CallerRefused(f"{MAX_CONNECTIONS} connections are open already")

    async def _pass(self, connection: socket.socket, peer: Peer) -> None:
        with closing(peer), connection, self._forwarded.named(peer) as name:
            try:
                await passage(connection, _connected(self._inner, name))
            except OSError as error:
                log.error("the server behind a proxy cannot be reached", error=str(error))


def _connected(inner: Path, name: str) -> socket.socket:
    upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        upstream.setblocking(False)
        upstream.bind(f"\0{name}")
        # Done at once, or refused: the server's backlog is longer than there are connections.
        upstream.connect(str(inner))
    except OSError:
        upstream.close()
        raise
    return upstream
