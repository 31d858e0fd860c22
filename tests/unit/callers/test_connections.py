"""How often connections are looked at."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import structlog
from structlog.testing import capture_logs

from sidecar.callers import connections as module
from sidecar.callers.accepted import Accepted
from sidecar.callers.connections import Connections
from sidecar.callers.forwarded import Forwarded
from sidecar.errors import CallerRefused


class _Looks:
    """Counts them; each takes a second of the clock."""

    def __init__(self) -> None:
        self.number = 0
        self.now = 0.0
        self.error: OSError | None = None
        self.found: list[Accepted] = []

    @contextmanager
    def accepted(self) -> Iterator[list[Accepted]]:
        self.number += 1
        self.now += 1.0
        if self.error:
            raise self.error
        yield self.found


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> _Looks:
    made = _Looks()
    monkeypatch.setattr(module, "accepted", made.accepted)
    return made


async def test_calls_that_come_together_are_looked_for_together(looks: _Looks) -> None:
    connections = Connections(Forwarded(), lambda: looks.now)
    calls = [connections.named(str(number)) for number in range(100)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, CallerRefused) for answer in answers)
    assert looks.number == 1


async def test_after_a_look_the_loop_is_left_alone_for_four_times_as_long(
    looks: _Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = Connections(Forwarded(), lambda: looks.now)
    loop, delays = asyncio.get_running_loop(), list[float]()

    def at_once(delay: float, call: Callable[..., object], *arguments: object) -> object:
        delays.append(delay)
        return loop.call_soon(call, *arguments)

    monkeypatch.setattr(loop, "call_later", at_once)
    for pause in (0.0, 0.0, 3.0, 99.0):
        looks.now += pause
        with pytest.raises(CallerRefused):
            await connections.named("one")
    assert delays == [0.0, 4.0, 1.0, 0.0]
    # Each call was looked for anew.
    assert looks.number == 4


async def test_whoever_waits_learns_that_there_are_no_descriptors_and_the_next_is_looked_for(
    looks: _Looks,
) -> None:
    connections = Connections(Forwarded(), lambda: 0.0)
    looks.error = OSError(24, "Too many open files")
    answers = await asyncio.gather(
        connections.named("one"), connections.named("other"), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [OSError, OSError]
    looks.error = None
    with pytest.raises(CallerRefused, match="0 connections have its name"):
        await connections.named("one")


async def test_who_stops_waiting_takes_the_look_from_nobody(looks: _Looks) -> None:
    connections = Connections(Forwarded(), lambda: looks.now)
    leaving, staying = (asyncio.create_task(connections.named(name)) for name in ("one", "two"))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(CallerRefused):
        await staying
    assert looks.number == 1


async def test_whoever_takes_names_without_end_does_not_fill_the_log(looks: _Looks) -> None:
    structlog.reset_defaults()
    ends = [socket.socketpair() for _ in range(100)]
    for number, (ours, _) in enumerate(ends):
        looks.found.append(Accepted(f"meshkey-{'0' * 32}", number, ours))
    with capture_logs() as logged:
        Connections(Forwarded(), lambda: 0.0).look()
    assert [entry["event"] for entry in logged] == ["two connections have the same name"]
    for ours, theirs in ends:
        assert theirs.recv(1) == b""
        ours.close()
        theirs.close()
