"""Lets calls in by the process at the other end of their connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from sidecar.callers.accepted import name_in
from sidecar.callers.base import Metadata, Policy
from sidecar.callers.connection import REFUSED, Call, Connection
from sidecar.callers.connections import Connections
from sidecar.callers.executables import Executables
from sidecar.callers.forwarded import Forwarded
from sidecar.callers.measurement import measure
from sidecar.callers.refusals import Refusals
from sidecar.core.journal import NOWHERE, Journal
from sidecar.core.process import UNKNOWN
from sidecar.errors import CallerRefused
from sidecar.one_thread import OneThread

log = structlog.get_logger(__name__)

# Nothing tells of execve(2), nor of a token that has expired.
_INTERVAL_S = 1.0
# Reading 150 MB from a slow disk takes seconds.
_PATIENCE = timedelta(seconds=10)

_NAMELESS = (
    "this socket tells callers apart by their sockets' names: bind yours to the abstract name "
    "meshkey- and 32 random hexadecimal digits before you connect it, or use a socket that "
    "the sidecar serves through its proxy"
)


class SocketCallers:
    """Implements `Callers` for the servers of this process. Use it from the event loop.

    A call is let in only if exactly one connection has its name, and it is over as soon as the
    connection, the process or the policy's consent is. Run `run` beside it.
    """

    def __init__(
        self,
        policy: Policy,
        forwarded: Forwarded,
        journal: Journal = NOWHERE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`forwarded` knows whom proxies speak for; `clock` gives seconds."""
        self._policy = policy
        self._connections = Connections(forwarded)
        self._executables = Executables()
        self._refusals = Refusals(journal, clock)
        # One for each user of whom the policy speaks: who runs a program from a disk that hangs
        # keeps out only himself.
        self._threads: dict[int, OneThread] = {}
        self._looks: dict[Connection, asyncio.Task[None]] = {}

    @property
    def policy(self) -> Policy:
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        """Asks it about every call at once."""
        self._policy = policy
        for connection in self._connections:
            self._ask_again(connection)

    @asynccontextmanager
    async def admit(self, peer: str, metadata: Metadata) -> AsyncIterator[Call]:
        """See `Callers`."""
        name = name_in(peer)
        if name is None:
            self._refusals.tell(UNKNOWN, "its connection has no name of ours")
            raise CallerRefused(_NAMELESS)
        connection, call = await self._let_in(name, _bearer(metadata))
        try:
            yield call
        finally:
            connection.calls.discard(call)

    async def run(self) -> None:
        """Looks at all callers every second."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Looks at the connections, the processes of those with calls, and the policy.

        A look at a process that hangs is left to itself after a second.
        """
        try:
            self._connections.look()
        except OSError as error:
            log.error("connections cannot be looked at", error=str(error))
        looks = [self._begun(connection) for connection in self._connections if connection.calls]
        if looks:
            await asyncio.wait(looks, timeout=_INTERVAL_S)

    def close(self) -> None:
        """Ends all calls."""
        self._connections.close()
        for look in self._looks.values():
            look.cancel()

    async def _let_in(self, name: str, bearer: str | None) -> tuple[Connection, Call]:
        process = UNKNOWN
        try:
            connection = await self._connections.named(name)
            process = connection.process
            # First: nothing is read, or remembered, of somebody who may have nothing anyway.
            self._policy.require_user(connection.require_usable().credentials.uid)
            await self._measure(connection)
            process = connection.process
            call = Call(connection, bearer, self._policy)
        except (CallerRefused, OSError) as reason:
            self._refusals.tell(process, str(reason))
            raise CallerRefused(REFUSED) from None
        connection.calls.add(call)
        return connection, call

    def _begun(self, connection: Connection) -> asyncio.Task[None]:
        """The look at its process that goes on, or a new one."""
        look = self._looks.get(connection)
        if look is None:
            look = self._looks[connection] = asyncio.create_task(self._look_again(connection))
            look.add_done_callback(lambda _: self._looks.pop(connection))
        return look

    async def _look_again(self, connection: Connection) -> None:
        try:
            await self._measure(connection)
            self._ask_again(connection)
        except CallerRefused as reason:
            self._refusals.tell(connection.process, str(reason))
        except Exception as error:  # a bug must not let a caller go on unseen
            log.error("looking at a caller failed", exc_info=error)
            connection.end("looking at it failed")

    def _ask_again(self, connection: Connection) -> None:
        for call in connection.calls:
            try:
                call.ask(self._policy)
            except CallerRefused as reason:
                self._refusals.tell(connection.process, str(reason))
                call.end()
            except Exception as error:  # a bug must not let a call go on with what it had
                log.error("asking about a caller failed", exc_info=error)
                call.end()

    async def _measure(self, connection: Connection) -> None:
        """Raises `CallerRefused` when the process is not to be known, or is no more what it was."""
        peer = connection.require_usable()
        thread = self._threads.setdefault(peer.credentials.uid, OneThread(_PATIENCE))
        try:
            measured = await thread.run(lambda: measure(peer, self._executables))
            connection.require_usable()
            if connection.measured:
                measured.require_same(connection.measured)
        except TimeoutError:
            reason = "looking at the process takes too long"
        except OSError as error:
            reason = f"the process cannot be looked at: {error.strerror}"
        except CallerRefused as refused:
            reason = str(refused)
        else:
            connection.measured = measured
            return
        connection.end(reason)
        raise CallerRefused(reason)


def _bearer(metadata: Metadata) -> str | None:
    """RFC 6750 section 2.1. Of several tokens none counts."""
    values = [value for key, value in metadata if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str):
        return None
    scheme, _, token = values[0].partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
