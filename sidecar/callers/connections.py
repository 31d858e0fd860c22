"""The connections that are open to us, each with its process."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

import structlog

from sidecar.callers.accepted import Accepted, accepted
from sidecar.callers.connection import Connection
from sidecar.callers.credentials import Credentials, Peer
from sidecar.callers.forwarded import PROXY_NAME, Forwarded
from sidecar.errors import CallerRefused

log = structlog.get_logger(__name__)


class Connections:
    """Those with a name of ours, each for as long as it is open. Use it from the event loop."""

    def __init__(self, forwarded: Forwarded) -> None:
        self._forwarded = forwarded
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

    def named(self, name: str) -> Connection:
        """The one connection whose other end has that name.

        Raises:
            CallerRefused: there are several, or none any more; the text is for the log.
            OSError: we are out of descriptors.
        """
        with accepted() as found:
            self._follow(found)
        named = [each for each in found if each.name == name]
        if len(named) != 1:
            raise CallerRefused(f"{len(named)} connections have its name")
        return self._open[named[0].cookie]

    def close(self) -> None:
        """Ends all of them."""
        for connection in self._open.values():
            connection.end("the sidecar stops")
        self._open.clear()

    def _follow(self, found: Sequence[Accepted]) -> None:
        for closed in self._open.keys() - {each.cookie for each in found}:
            self._open.pop(closed).end("its connection is closed")
        having = Counter(each.name for each in found)
        for each in found:
            if each.cookie in self._open:
                continue
            if having[each.name] > 1:
                _turn_out(each)
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


def _turn_out(stranger: Accepted) -> None:
    """Somebody in another network namespace has taken the name of a connection.

    Which of the two a call comes from nobody can tell, so whoever came last has to go.
    """
    log.warning("two connections have the same name", name=stranger.name)
    with suppress(OSError):  # it may have gone
        stranger.connection.shutdown(socket.SHUT_RDWR)
