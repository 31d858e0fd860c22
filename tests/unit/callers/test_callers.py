"""What becomes of callers when looking at them, or asking about them, goes wrong."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from unittest.mock import AsyncMock

import pytest

from sidecar.callers import callers as module
from sidecar.callers.callers import SocketCallers
from sidecar.callers.connection import Call, Connection
from sidecar.callers.credentials import Credentials, Peer
from sidecar.callers.executables import Executables
from sidecar.callers.forwarded import Forwarded
from sidecar.callers.measurement import Measured
from sidecar.core.process import CallingProcess
from sidecar.errors import CallerRefused
from tests.fixtures.called import RememberingJournal, RememberingPolicy
from tests.fixtures.waiting import settle, soon

HANGING, OTHER = 1, 2


class _Scene:
    """Callers, and connections that they have met."""

    def __init__(self) -> None:
        self.policy = RememberingPolicy()
        self.journal = RememberingJournal()
        self.callers = SocketCallers(self.policy, Forwarded(), self.journal)
        # Whatever the connections are, they are not this process's descriptors.
        self.callers._connections.look = lambda: None  # type: ignore[method-assign]

    def connection(self, uid: int) -> Connection:
        peer = Peer(Credentials(uid, uid, os.getpid()), os.pidfd_open(os.getpid()))
        connection = Connection(peer)
        self.callers._connections._open[len(self.callers._connections._open)] = connection
        return connection

    def call(self, connection: Connection) -> Call:
        call = Call(connection, None, self.policy)
        connection.calls.add(call)
        return call


@pytest.fixture
async def scene() -> AsyncIterator[_Scene]:
    made = _Scene()
    yield made
    made.callers.close()


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Looking at processes of the user HANGING takes until it is set."""
    go_on = threading.Event()

    def measure(peer: Peer, _executables: Executables) -> Measured:
        if peer.credentials.uid == HANGING:
            go_on.wait()
        return Measured(CallingProcess(uid=peer.credentials.uid))

    monkeypatch.setattr(module, "measure", measure)
    yield go_on
    go_on.set()


async def test_who_runs_a_program_from_a_disk_that_hangs_keeps_out_only_himself(
    scene: _Scene, hang: threading.Event
) -> None:
    hanging = asyncio.create_task(scene.callers._measure(scene.connection(HANGING)))
    await settle()
    other = scene.connection(OTHER)
    await scene.callers._measure(other)
    assert other.process.uid == OTHER
    assert not hanging.done()
    hang.set()
    await hanging


async def test_a_look_at_others_does_not_wait_for_one_that_hangs(
    scene: _Scene, hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_INTERVAL_S", 0)
    hanging, other = scene.connection(HANGING), scene.connection(OTHER)
    for connection in (hanging, other):
        scene.call(connection)
    await scene.callers.look()
    await soon(lambda: other.measured)
    await scene.callers.look()
    assert not hanging.measured
    assert not hang.is_set()


async def test_what_cannot_be_looked_at_in_time_has_ended(
    scene: _Scene, hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", timedelta(seconds=0))
    hanging = scene.connection(HANGING)
    call = scene.call(hanging)
    await scene.callers.look()
    await call.over()
    assert call.permissions == {}
    assert scene.journal.reasons == ["looking at the process takes too long"]
    with pytest.raises(CallerRefused):
        hanging.require_usable()
    hang.set()


async def test_a_mistake_in_the_policy_lets_nobody_go_on(scene: _Scene) -> None:
    call = scene.call(scene.connection(OTHER))

    def mistaken(_process: CallingProcess) -> None:
        raise ZeroDivisionError

    scene.policy.rule = mistaken
    await scene.callers.look()
    await call.over()


async def test_a_mistake_in_another_policy_ends_every_call_and_no_reload(scene: _Scene) -> None:
    calls = [scene.call(scene.connection(OTHER)) for _ in range(2)]
    mistaken = RememberingPolicy()

    def fail(_process: CallingProcess) -> None:
        raise ZeroDivisionError

    mistaken.rule = fail
    scene.callers.policy = mistaken
    for call in calls:
        await call.over()
        assert call.permissions == {}


async def test_out_of_descriptors_nobody_is_let_in(
    scene: _Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def exhausted(_name: str) -> Connection:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(scene.callers._connections, "named", exhausted)
    with pytest.raises(CallerRefused, match="may not use this socket"):
        async with scene.callers.admit(f"unix-abstract:meshkey-{'0' * 32}", ()):
            pass


async def test_a_call_that_is_over_gets_no_permissions_back(scene: _Scene) -> None:
    call = scene.call(scene.connection(OTHER))
    assert call.permissions
    call.end()
    scene.callers.policy = scene.policy
    assert call.permissions == {}


async def test_of_users_who_may_have_nothing_nothing_is_read_nor_remembered(
    scene: _Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_uid: int) -> None:
        raise CallerRefused("no rule is for that user")

    def unread(_peer: Peer, _executables: Executables) -> Measured:
        raise AssertionError("it was looked at")

    scene.policy.user = nobody
    monkeypatch.setattr(module, "measure", unread)
    for uid in range(1000, 1100):
        stranger = scene.connection(uid)
        named = AsyncMock(return_value=stranger)
        monkeypatch.setattr(scene.callers._connections, "named", named)
        with pytest.raises(CallerRefused, match="may not use this socket"):
            async with scene.callers.admit(f"unix-abstract:meshkey-{'0' * 32}", ()):
                pass
    assert set(scene.journal.reasons) == {"no rule is for that user"}
    assert not scene.callers._threads
