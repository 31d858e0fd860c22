"""What iptables does for a pod, done by a relay, because tests cannot count on iptables.

istio-iptables redirects a pod's connections to its proxy, which learns from the kernel where they
were going. A relay listens where they are going, connects to the proxy's listener, a Unix socket
here, and tells it the same in a PROXY protocol header; the adapter puts the listener filter that
reads it where Istio has the one that asks the kernel. From there on nothing differs: the filter
restores the connection's local address, by which Envoy picks listeners, filter chains and
ORIGINAL_DST endpoints.

- Inbound: it listens at the pod's address and says that of the application, `Pod.inside`.
- Outbound: it listens where the application calls, usually a service's address, and says that.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

Address = tuple[str, int]
_BOUND_S = 30.0
_CHUNK = 65536


class Relays:
    """Relays on an event loop of their own, until the context is left."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Relays:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_BOUND_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def relay(self, listen: Address, proxy: Path, destination: Address) -> Address:
        """From `listen`, port 0 for a free one, to the proxy's Unix socket; `destination` is what
        the proxy is told. Returns where it listens."""
        serving = self._serve(listen, proxy, destination)
        return asyncio.run_coroutine_threadsafe(serving, self._loop).result(_BOUND_S)

    async def _serve(self, listen: Address, proxy: Path, destination: Address) -> Address:
        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Noted at once: a task that is cancelled before it began cleans nothing up.
            self._open.add(writer)
            task = self._loop.create_task(self._relayed(reader, writer, proxy, destination))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        host, port = listen
        server = await asyncio.start_server(accepted, host, port, backlog=256)
        self._servers.append(server)
        bound: Address = server.sockets[0].getsockname()[:2]
        return bound

    async def _relayed(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        proxy: Path,
        destination: Address,
    ) -> None:
        source: Address = writer.get_extra_info("peername")[:2]
        try:
            to_reader, to_writer = await asyncio.open_unix_connection(proxy)
        except OSError:
            # Nobody listens: as in a pod whose proxy is not there.
            self._abort(writer)
            return
        self._open.add(to_writer)
        to_writer.write(header(source, destination))
        await asyncio.gather(_pump(reader, to_writer, writer), _pump(to_reader, writer, to_writer))
        self._abort(writer, to_writer)

    def _abort(self, *writers: asyncio.StreamWriter) -> None:
        for each in writers:
            each.transport.abort()
            self._open.discard(each)

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._abort(*self._open)


async def _pump(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, back: asyncio.StreamWriter
) -> None:
    """Octets one way, and their end; a connection that breaks takes the other with it."""
    try:
        while octets := await source.read(_CHUNK):
            sink.write(octets)
            await sink.drain()
        sink.write_eof()
    except OSError:
        with suppress(OSError):
            sink.transport.abort()
            back.transport.abort()


def header(source: Address, destination: Address) -> bytes:
    """Version 1 of the PROXY protocol (haproxy.org, proxy-protocol.txt, 2.1)."""
    return f"PROXY TCP4 {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode()
