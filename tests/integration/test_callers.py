"""Callers are other processes, over real sockets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures.called import TALK, Called, aside
from tests.fixtures.named_client import NamedClient, random_name
from tests.fixtures.waiting import soon

DENIED = 7
PYTHON = hashlib.sha256(Path("/proc/self/exe").read_bytes()).hexdigest()


@pytest.fixture
async def called(short_dir: Path) -> AsyncIterator[Called]:
    """Serves at short_dir / "direct", and behind a proxy at short_dir / "front"."""
    served = Called()
    async with served.direct(short_dir / "direct"), served.proxied(short_dir / "front"):
        yield served


def _talk(path: Path, name: str | None = None, **metadata: str) -> tuple[int, bytes]:
    with NamedClient(path, name) as client:
        client.begin(TALK, b"hello", **metadata)
        return client.pid, client.message()


def _refused(path: Path, name: str | None = None) -> dict[str, object]:
    with NamedClient(path, name) as client:
        client.begin(TALK, b"hello")
        ended: dict[str, object] = client.end_of_call()
        return ended


async def test_a_client_that_names_its_socket_is_known(called: Called, short_dir: Path) -> None:
    pid, answer = await aside(lambda: _talk(short_dir / "direct", random_name()))
    assert answer == b"hello"
    process = called.heard[0][0]
    assert (process.uid, process.gid, process.pid) == (os.getuid(), os.getgid(), pid)
    assert process.executable == PYTHON
    assert process.is_interpreter


async def test_a_client_without_a_name_is_known_through_the_proxy(
    called: Called, short_dir: Path
) -> None:
    pid, answer = await aside(lambda: _talk(short_dir / "front"))
    assert answer == b"hello"
    assert called.heard[0][0].pid == pid


async def test_a_client_without_a_name_learns_what_to_do(called: Called, short_dir: Path) -> None:
    refused = await aside(lambda: _refused(short_dir / "direct"))
    assert refused["status"] == DENIED
    assert "32 random hexadecimal digits" in str(refused["detail"])
    assert not called.heard


async def test_the_end_of_a_process_ends_its_calls(called: Called, short_dir: Path) -> None:
    client = await aside(lambda: NamedClient(short_dir / "direct", random_name()))
    await aside(lambda: client.begin(TALK, b"hello"))
    await soon(lambda: called.inside)
    admitted = called.inside[0]
    # The connection stays: only the process ends.
    await aside(client.fork)
    await admitted.over()
    await soon(lambda: not called.inside)
    client.kill()
