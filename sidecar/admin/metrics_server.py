"""Serves the numbers over HTTP: GET /metrics, or /, and nothing else."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import structlog
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from sidecar.admin.metrics import Numbers
from sidecar.errors import StartFailed
from sidecar.rpc.sockets import unix_listener

log = structlog.get_logger(__name__)

# The format that every Prometheus reads.
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PATHS = (b"/metrics", b"/")
# What Prometheus sends has less than one KiB.
_LONGEST_REQUEST = 8192
# From the connection to the last byte of the answer: who is slower gets no answer.
_PATIENCE_S = 5.0
# Whoever holds more than these connections keeps others out, for at most the patience.
_AT_ONCE = 8

_CUT_OFF = (TimeoutError, OSError, asyncio.IncompleteReadError)


class MetricsServer:
    """Answers one request for each connection, in bounded time and memory."""

    def __init__(self, numbers: Numbers, patience: float = _PATIENCE_S) -> None:
        self._numbers = numbers
        self._patience = patience
        self._connections = 0

    async def start(self, place: tuple[str, int] | Path) -> Callable[[], None]:
        """Serves on the event loop until what is returned is called.

        A Unix socket has mode 0660 and is gone at the end.

        Raises:
            StartFailed: the address is taken, or not this machine's.
        """
        listener = _listener(place)
        server = await asyncio.start_server(self._connected, sock=listener, limit=_LONGEST_REQUEST)

        def stop() -> None:
            # First its name: once nobody listens, a successor may put a socket of its own there.
            if isinstance(place, Path):
                place.unlink(missing_ok=True)
            server.close()

        return stop

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= _AT_ONCE:
                async with asyncio.timeout(self._patience):
                    writer.write(await self._answer(reader))
                    writer.close()
                    await writer.wait_closed()
        except _CUT_OFF:
            pass  # nobody is there to be told
        finally:
            self._connections -= 1
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        # RFC 9112 section 3: method, target, version. Nothing else in a request matters here.
        parts = head.partition(b"\r\n")[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST)
        method, target, _version = parts
        if target.partition(b"?")[0] not in _PATHS:
            return _response(HTTPStatus.NOT_FOUND)
        if method != b"GET":
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"", "Allow: GET\r\n")
        return await self._numbers_as_text()

    async def _numbers_as_text(self) -> bytes:
        try:
            collected = _Collected(list(self._numbers.collect()))
            # Signatures go on meanwhile.
            text = await asyncio.to_thread(generate_latest, collected)
        except Exception as error:  # a bug here must not look like a process that is down
            log.error("metrics failed", exc_info=error)
            return _response(HTTPStatus.INTERNAL_SERVER_ERROR)
        return _response(HTTPStatus.OK, text, f"Content-Type: {_CONTENT_TYPE}\r\n")


@dataclass(frozen=True)
class _Collected(Collector):
    """What was read on the event loop, for a thread."""

    families: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def _listener(place: tuple[str, int] | Path) -> socket.socket:
    if isinstance(place, Path):
        return unix_listener(place, 0o660)
    host, port = place
    try:
        return socket.create_server((host, port))
    except OSError as error:
        reason = error.strerror if error.errno is None else os.strerror(error.errno)
        raise StartFailed(f"metrics.address {host}:{port}: {reason}") from error


def _response(status: HTTPStatus, body: bytes = b"", headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n{headers}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
