"""Who gives a command is known to the record of it, and holds nothing up."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from sidecar.callers import commanders as module
from sidecar.callers.commanders import Commanders
from sidecar.callers.credentials import Peer
from sidecar.callers.forwarded import Forwarded
from sidecar.core.process import UNKNOWN
from tests.fixtures.waiting import BOUND_S


@pytest.fixture
def peer() -> Iterator[Peer]:
    """This process, as if it had connected to itself."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = Peer.of(ours)
        yield made
        made.close()


def _python() -> str:
    return sha256(Path(sys.executable).read_bytes()).hexdigest()


async def test_a_command_is_its_processs(peer: Peer) -> None:
    forwarded = Forwarded()
    with forwarded.named(peer) as name:
        process = await Commanders(forwarded).process(f"unix-abstract:{name}")
    assert (process.uid, process.pid) == (os.geteuid(), os.getpid())
    assert process.executable == _python()
    for unknown in (f"unix-abstract:{name}", "unix:", ""):
        assert await Commanders(forwarded).process(unknown) == UNKNOWN


async def test_of_a_connection_that_has_closed_what_the_kernel_noted_is_left(peer: Peer) -> None:
    forwarded = Forwarded()
    with forwarded.named(peer) as name:
        peer.close()
        process = await Commanders(forwarded).process(f"unix-abstract:{name}")
    assert (process.uid, process.pid, process.executable) == (os.geteuid(), os.getpid(), None)


async def test_a_disk_that_hangs_costs_the_hash_and_nothing_else(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(module, "_PATIENCE", timedelta(milliseconds=10))
    monkeypatch.setattr(module, "measure", lambda *_: released.wait(BOUND_S))
    forwarded = Forwarded()
    with forwarded.named(peer) as name:
        process = await Commanders(forwarded).process(f"unix-abstract:{name}")
    released.set()
    assert (process.uid, process.pid, process.executable) == (os.geteuid(), os.getpid(), None)
