"""Passes bytes between two sockets."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

# For what one side has still to take when the other is gone.
_LAST_BYTES_S = 1.0


async def passage(outside: socket.socket, inside: socket.socket) -> None:
    """Passes bytes both ways until both sides have ended their writing, or one is gone.

    Who does not read is not read from either. Both sockets are closed afterwards, also when
    it is cancelled.
    """
    over = asyncio.Event()
    sides = _Side(over), _Side(over)
    sides[0].other, sides[1].other = sides[1], sides[0]
    try:
        for side, its_socket in zip(sides, (outside, inside), strict=True):
            await _attach(side, its_socket)
        await over.wait()
        for side in sides:
            side.transport.close()
        await asyncio.wait([side.lost for side in sides], timeout=_LAST_BYTES_S)
    finally:
        for side in sides:
            side.abort()
        outside.close()
        inside.close()


async def _attach(side: _Side, its_socket: socket.socket) -> None:
    # For a socket that is connected already, whoever has connected it.
    await asyncio.get_running_loop().connect_accepted_socket(lambda: side, its_socket)


class _Side(asyncio.Protocol):
    """What comes in here goes out at the other side."""

    other: _Side
    transport: asyncio.Transport

    def __init__(self, over: asyncio.Event) -> None:
        self._over = over
        self._attached = False
        self._ended = False
        # What came from the other side, which was there sooner.
        self._early: list[bytes] = []
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._attached = True
        for data in self._early:
            self.transport.write(data)
        self._early.clear()
        if self.other._ended:
            self.transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self.other.deliver(data)

    def deliver(self, data: bytes) -> None:
        """Sends what has come in at the other side, as soon as there is somewhere to send it."""
        # No more than comes in a turn or two of the loop. Reading could be paused until then,
        # but before 3.11.4 a transport that is paused as it is made reads all the same.
        if self._attached:
            self.transport.write(data)
        else:
            self._early.append(data)

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        """Passes on that no more will come; the other direction stays open."""
        self._ended = True
        if self.other._attached:
            self.other.transport.write_eof()
        if self.other._ended:
            self._over.set()
        return True

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  # gone is gone
        if not self.lost.done():
            self.lost.set_result(None)
        self._over.set()

    def abort(self) -> None:
        """At whatever point it is; what was not sent yet is dropped."""
        if self._attached:
            self.transport.abort()
