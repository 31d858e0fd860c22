"""Connections that come faster than they are accepted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.callers.accept_proxy import AcceptProxy
from sidecar.callers.credentials import Credentials
from sidecar.callers.forwarded import Forwarded
from sidecar.errors import CallerRefused
from tests.fixtures.waiting import soon

WAITING = 20


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.bind(str(tmp_path / "s"))
        made.listen(WAITING)
        yield made


async def test_whoever_connects_without_end_leaves_the_loop_to_others(
    listener: socket.socket,
) -> None:
    refused, others = 0, list[int]()

    def closed(_credentials: Credentials) -> None:
        nonlocal refused
        refused += 1
        asyncio.get_running_loop().call_soon(lambda: others.append(refused))
        raise CallerRefused("nobody comes in")

    waiting = []
    for _ in range(WAITING):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(listener.getsockname())
        waiting.append(client)
    proxy = AcceptProxy(Path("nowhere"), Forwarded(), closed)
    running = asyncio.create_task(proxy.run(listener))
    await soon(lambda: len(others) == WAITING)
    # Each refusal was followed by somebody else's turn.
    assert others == list(range(1, WAITING + 1))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    for client in waiting:
        client.close()
