"""The connections that are open to us, each with its process."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import structlog

from sidecar.callers.accepted import Accepted, accepted
from sidecar.callers.connection import Connection
from sidecar.callers.credentials import Credentials, Peer
from sidecar.callers.forwarded import PROXY_NAME, Forwarded
from sidecar.errors import CallerRefused
from sidecar.rpc.quiet import Quiet

log = structlog.get_logger(__name__)

# A look takes 15 us for each connection, on the event loop. After it the loop is left alone for
# this many times as long, however many calls come.
_LEFT_ALONE = 4


class Connections:
    """Those with a name of ours, each for as long as it is open. Use it from the event loop."""

    def __init__(self, forwarded: Forwarded, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._forwarded = forwarded
        self._clock = clock
        self._quiet = Quiet(clock)
        self._next_look = 0.0
        # The cookies of the connections that have a name, as the next look finds them.
        self._awaited: asyncio.Future[dict[str, list[int]]] | None = None
        # By cookie. Each is an open descriptor of the servers: there are no more than they accept.
        self._open: dict[int, Connection] = {}

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._open.values()))

    def look(self) -> None:
        """Forgets those that are closed and meets those that are new.

        The sooner after a process has connected, the less can have become of it.

        Raises:
            OSError: we are out of descriptors.
        """
        with accepted() as found:
            self._follow(found)

    async def named(self, name: str) -> Connection:
        """The one connection whose other end has that name.

        All calls that come before a look are looked for together, by one that begins after
        they came.

        Raises:
            CallerRefused: there are several, or none any more; the text is for the log.
            OSError: we are out of descriptors.
        """
        # Not cancelled with one of those who wait for it.
        cookies = (await asyncio.shield(self._look_to_come())).get(name, [])
        if len(cookies) != 1:
            raise CallerRefused(f"{len(cookies)} connections have its name")
        if connection := self._open.get(cookies[0]):
            return connection
        raise CallerRefused("its connection is closed")

    def close(self) -> None:
        """Ends all of them."""
        for connection in self._open.values():
            connection.end("the sidecar stops")
        self._open.clear()

    def _look_to_come(self) -> asyncio.Future[dict[str, list[int]]]:
        if self._awaited is None:
            loop = asyncio.get_running_loop()
            self._awaited = loop.create_future()
            loop.call_later(
                max(0.0, self._next_look - self._clock()), self._look_for, self._awaited
            )
        return self._awaited

    def _look_for(self, awaited: asyncio.Future[dict[str, list[int]]]) -> None:
        self._awaited = None
        began = self._clock()
        cookies: dict[str, list[int]] = {}
        try:
            with accepted() as found:
                self._follow(found)
                for each in found:
                    cookies.setdefault(each.name, []).append(each.cookie)
        except Exception as error:  # noqa: BLE001  # whoever waits for it gets it
            awaited.set_exception(error)
            awaited.exception()  # they may be gone
        else:
            awaited.set_result(cookies)
        ended = self._clock()
        self._next_look = ended + _LEFT_ALONE * (ended - began)

    def _follow(self, found: Sequence[Accepted]) -> None:
        for closed in self._open.keys() - {each.cookie for each in found}:
            self._open.pop(closed).end("its connection is closed")
        having = Counter(each.name for each in found)
        for each in found:
            if each.cookie in self._open:
                continue
            if having[each.name] > 1:
                self._turn_out(each)
            else:
                self._open[each.cookie] = self._met(each)

    def _met(self, new: Accepted) -> Connection:
        credentials = Credentials.of(new.connection)
        try:
            return Connection(self._peer(new, credentials))
        except CallerRefused as reason:
            return Connection.refused(credentials, str(reason))

    def _peer(self, new: Accepted, credentials: Credentials) -> Peer:
        ours = credentials.pid == os.getpid()
        if not ours and not new.name.startswith(PROXY_NAME):
            return Peer.of(new.connection)
        # Whoever takes a name of the proxy's, in another network namespace, is not the proxy.
        forwarded = self._forwarded.peer(new.name) if ours else None
        if forwarded is None:
            raise CallerRefused("it came around the proxy")
        return forwarded.duplicate()

    def _turn_out(self, stranger: Accepted) -> None:
        """Somebody in another network namespace has taken the name of a connection.

        Which of the two a call comes from nobody can tell, so whoever came last has to go.
        """
        if (suppressed := self._quiet.suppressed("same name")) is not None:
            log.warning(
                "two connections have the same name", name=stranger.name, suppressed=suppressed
            )
        with suppress(OSError):  # it may have gone
            stranger.connection.shutdown(socket.SHUT_RDWR)
