"""One connection, the process at its other end, and the calls that came through it."""

from __future__ import annotations

import asyncio

import structlog

from sidecar.callers.base import Policy
from sidecar.callers.credentials import Credentials, Peer
from sidecar.callers.measurement import Measured
from sidecar.core.permission import Permissions
from sidecar.core.process import CallingProcess
from sidecar.errors import CallerRefused

log = structlog.get_logger(__name__)

REFUSED = "this process may not use this socket; the log of the sidecar says why"


class Connection:
    """One process, measured for all of its calls. Once it has ended it never begins again."""

    def __init__(self, peer: Peer) -> None:
        """It closes `peer` at its end."""
        self.calls: set[Call] = set()
        self.measured: Measured | None = None
        self._peer = peer
        self._ended: str | None = None
        # Apart from the peer, which is closed when this is to be removed.
        self._watched = peer.pidfd
        if self._watched is not None:
            asyncio.get_running_loop().add_reader(self._watched, self._process_ended)

    @classmethod
    def refused(cls, credentials: Credentials, reason: str) -> Connection:
        """One whose process is not known, and will not be."""
        connection = cls(Peer(credentials, None))
        connection.end(reason)
        return connection

    @property
    def process(self) -> CallingProcess:
        """As it was last measured; before that, what it connected with."""
        if self.measured:
            return self.measured.process
        credentials = self._peer.credentials
        return CallingProcess(uid=credentials.uid, gid=credentials.gid, pid=credentials.pid)

    def require_usable(self) -> Peer:
        """Whose it is.

        Raises:
            CallerRefused: it has ended; the text is for the log.
        """
        if self._ended is not None:
            raise CallerRefused(self._ended)
        return self._peer

    def end(self, reason: str) -> None:
        """Ends its calls, for good. The first reason counts."""
        if self._ended is None:
            self._ended = reason
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = None
        self._peer.close()
        for call in self.calls:
            call.end()

    def _process_ended(self) -> None:
        if self.calls:
            process = self.process
            log.info("caller ended", uid=process.uid, pid=process.pid, calls=len(self.calls))
        self.end("the process has ended")


class Call:
    """Implements `Admitted`."""

    def __init__(self, connection: Connection, bearer: str | None, policy: Policy) -> None:
        """Raises `CallerRefused` when the policy refuses."""
        self._connection = connection
        self._bearer = bearer
        self._ended = asyncio.Event()
        self.ask(policy)

    @property
    def process(self) -> CallingProcess:
        return self._connection.process

    @property
    def permissions(self) -> Permissions:
        return self._permissions

    async def over(self) -> CallerRefused:
        await self._ended.wait()
        return CallerRefused(REFUSED)

    def ask(self, policy: Policy) -> None:
        """Takes what `policy` says now.

        Raises:
            CallerRefused: nothing; the text is for the log.
        """
        if not self._ended.is_set():
            self._permissions = policy.permissions(self.process, self._bearer)

    def end(self) -> None:
        # Whoever still holds it may not use it either.
        self._permissions = {}
        self._ended.set()
