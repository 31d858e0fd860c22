"""Blocking work that takes its time."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from sidecar.one_thread import OneThread
from tests.fixtures.waiting import BOUND_S, settle, soon


async def test_what_ends_wakes_who_is_next_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = 0
    wait = asyncio.wait

    async def counted(awaited: Any) -> object:
        nonlocal waits
        waits += 1
        return await wait(awaited)

    monkeypatch.setattr(asyncio, "wait", counted)
    thread = OneThread(timedelta(seconds=BOUND_S))
    order: list[int] = []
    await asyncio.gather(*(thread.run(partial(order.append, each)) for each in range(30)))
    assert order == list(range(30))
    assert waits == 30


async def test_one_that_never_comes_back_keeps_one_thread() -> None:
    thread, release = OneThread(timedelta(seconds=0.01)), threading.Event()
    begun: list[int] = []
    with pytest.raises(TimeoutError):
        await thread.run(lambda: release.wait(BOUND_S))
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await thread.run(lambda: begun.append(1))
    assert not begun
    release.set()
    await soon(lambda: not thread._thread.locked())
    patient = OneThread(timedelta(seconds=BOUND_S))
    assert await patient.run(lambda: "back") == "back"


async def test_who_stops_waiting_leaves_his_place_to_the_next() -> None:
    thread, release = OneThread(timedelta(seconds=BOUND_S)), threading.Event()
    first = asyncio.create_task(thread.run(lambda: release.wait(BOUND_S)))
    await settle()
    leaving = asyncio.create_task(thread.run(lambda: "never asked"))
    last = asyncio.create_task(thread.run(lambda: "served"))
    await settle()
    leaving.cancel()
    first.cancel()
    await settle()
    assert not last.done()
    release.set()
    assert await last == "served"
