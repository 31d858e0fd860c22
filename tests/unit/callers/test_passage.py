"""Bytes between two sockets, both ways."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from sidecar.callers.passage import passage
from tests.fixtures.waiting import settle, soon


class _Far:
    """The far ends of two connections, with a passage between the near ends."""

    def __init__(self) -> None:
        self.client, outside = socket.socketpair()
        self.server, inside = socket.socketpair()
        self.near = outside, inside
        for each in (self.client, self.server, *self.near):
            each.setblocking(False)
        self.passage = asyncio.create_task(passage(*self.near))


@pytest.fixture(params=["outwards", "inwards"])
async def far(request: pytest.FixtureRequest) -> AsyncIterator[_Far]:
    """In both directions: `client` and `server` are no different."""
    made = _Far()
    if request.param == "outwards":
        made.client, made.server = made.server, made.client
    yield made
    made.passage.cancel()
    await asyncio.gather(made.passage, return_exceptions=True)
    made.client.close()
    made.server.close()


async def _received(end: socket.socket, length: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < length and (more := await loop.sock_recv(end, 65536)):
        data += more
    return data


async def test_bytes_pass_unchanged(far: _Far) -> None:
    sent = os.urandom(1 << 20)
    writing = asyncio.create_task(asyncio.get_running_loop().sock_sendall(far.client, sent))
    assert await _received(far.server, len(sent)) == sent
    await writing


@pytest.mark.parametrize("turned", [False, True])
async def test_what_came_before_the_other_side_was_there_is_passed_and_so_is_its_end(
    *, turned: bool
) -> None:
    (client, outside), (server, inside) = socket.socketpair(), socket.socketpair()
    with client, server:
        for each in (client, outside, server, inside):
            each.setblocking(False)
        client.send(b"early")
        client.shutdown(socket.SHUT_WR)
        near = (inside, outside) if turned else (outside, inside)
        passing = asyncio.create_task(passage(*near))
        assert await _received(server, 6) == b"early"
        server.send(b"late")
        assert await _received(client, 4) == b"late"
        server.shutdown(socket.SHUT_WR)
        await passing


async def test_one_side_may_end_its_writing_and_read_on(far: _Far) -> None:
    far.client.shutdown(socket.SHUT_WR)
    assert await _received(far.server, 1) == b""
    far.server.send(b"answer")
    assert await _received(far.client, 6) == b"answer"
    assert not far.passage.done()
    far.server.shutdown(socket.SHUT_WR)
    await far.passage
    assert [each.fileno() for each in far.near] == [-1, -1]


async def test_when_one_side_is_gone_so_is_the_other(far: _Far) -> None:
    # Read it and what was said last is seen all the same.
    far.client.send(b"last words")
    far.client.close()
    assert await _received(far.server, 11) == b"last words"
    far.server.close()
    await far.passage


async def test_who_does_not_read_is_not_read_for(far: _Far) -> None:
    sent = 0
    # Until nothing more is taken, however long one waits: the buffers between are full.
    for _ in range(100):
        with suppress(BlockingIOError):
            while True:
                sent += far.client.send(bytes(65536))
        await settle()
    with pytest.raises(BlockingIOError):
        far.client.send(b"x")
    assert sent < 4 << 20
    # And it goes on as soon as it is read.
    await _received(far.server, sent)
    await soon(lambda: far.client.send(b"x") == 1)


async def test_what_is_cancelled_closes_both(far: _Far) -> None:
    await settle()
    far.passage.cancel()
    assert await _received(far.client, 1) == b""
    assert await _received(far.server, 1) == b""
    await asyncio.gather(far.passage, return_exceptions=True)
    assert [each.fileno() for each in far.near] == [-1, -1]
