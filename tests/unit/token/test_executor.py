"""Blocking work beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from sidecar.errors import NoSuchKey, SignerBusy, TokenUnavailable
from sidecar.token.executor import TokenExecutor
from tests.fixtures.waiting import BOUND_S, settle, soon


@pytest.fixture
async def executor() -> Iterator[TokenExecutor]:  # type: ignore[misc]
    made = TokenExecutor(threads=2, backlog=4)
    yield made
    made.close()


async def test_a_result_comes_back(executor: TokenExecutor) -> None:
    assert await executor.run(lambda: 6 * 7) == 42


async def test_an_error_comes_back_as_it_was(executor: TokenExecutor) -> None:
    error = NoSuchKey("no key 0a1f")

    def work() -> None:
        raise error

    with pytest.raises(NoSuchKey) as raised:
        await executor.run(work)
    assert raised.value is error


async def test_a_thread_survives_the_error_of_its_work() -> None:
    executor = TokenExecutor(threads=1, backlog=4)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await executor.run(lambda: 1 // 0)
    assert await executor.run(lambda: "alive") == "alive"
    executor.close()


async def test_blocked_work_does_not_block_the_loop(executor: TokenExecutor) -> None:
    release = threading.Event()
    blocked = asyncio.create_task(executor.run(lambda: release.wait(BOUND_S)))
    # Only a loop that goes on gets here; the other thread is free too.
    await settle()
    assert await executor.run(threading.get_ident) != threading.get_ident()
    assert not blocked.done()
    release.set()
    assert await blocked


async def test_as_much_work_runs_at_once_as_there_are_threads(executor: TokenExecutor) -> None:
    together = threading.Barrier(2)
    await asyncio.gather(*(executor.run(lambda: together.wait(BOUND_S)) for _ in range(2)))


async def test_a_full_backlog_is_busy_and_takes_work_again_later(executor: TokenExecutor) -> None:
    release = threading.Event()
    running = [asyncio.create_task(executor.run(lambda: release.wait(BOUND_S))) for _ in range(4)]
    await settle()
    with pytest.raises(SignerBusy, match="4 token operations are waiting"):
        await executor.run(lambda: None)
    release.set()
    assert all(await asyncio.gather(*running))
    assert await executor.run(lambda: "again") == "again"


async def test_failed_work_makes_room_in_the_backlog() -> None:
    executor = TokenExecutor(threads=1, backlog=1)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            await executor.run(lambda: 1 // 0)
    executor.close()


async def test_results_that_are_ready_together_come_in_one_wake_up() -> None:
    loop = asyncio.get_running_loop()
    executor = TokenExecutor(threads=1, backlog=100)
    wake_ups: list[int] = []
    deliver = executor._deliver

    def counted() -> None:
        wake_ups.append(len(executor._finished))
        deliver()

    executor._deliver = counted  # type: ignore[method-assign]
    done: list[int] = []
    finished = threading.Event()
    for number in range(50):
        executor.submit(lambda number=number: number, lambda result, _: done.append(result))  # type: ignore[misc]
    executor.submit(finished.set, lambda *_: done.append(-1))
    # The loop stands still until the thread has done everything.
    assert finished.wait(BOUND_S)
    await soon(lambda: len(done) == 51)
    assert done == [*range(50), -1]
    assert len(wake_ups) <= 2
    assert loop is asyncio.get_running_loop()
    executor.close()


async def test_no_result_is_lost_under_many_wake_ups(executor: TokenExecutor) -> None:
    wide = TokenExecutor(threads=8, backlog=5000)
    results = await asyncio.gather(*(wide.run(lambda n=n: n) for n in range(5000)))  # type: ignore[misc]
    assert results == list(range(5000))
    wide.close()


async def test_who_stopped_waiting_is_not_missed(executor: TokenExecutor) -> None:
    release = threading.Event()
    waiting = asyncio.create_task(executor.run(lambda: release.wait(BOUND_S)))
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    assert await executor.run(lambda: "goes on") == "goes on"


async def test_a_closed_executor_refuses_work_instead_of_never_doing_it() -> None:
    executor = TokenExecutor(threads=1, backlog=10)
    executor.close()
    with pytest.raises(TokenUnavailable, match="stopping"):
        await executor.run(lambda: None)


async def test_each_thread_lives_as_long_as_the_executor() -> None:
    executor = TokenExecutor(threads=1, backlog=10)
    idents = {await executor.run(threading.get_ident) for _ in range(5)}
    assert len(idents) == 1
    executor.close()


async def test_closing_finishes_what_was_submitted() -> None:
    executor = TokenExecutor(threads=2, backlog=100)
    done: list[int] = []
    for number in range(50):
        executor.submit(lambda number=number: done.append(number), lambda *_: None)  # type: ignore[misc]
    executor.close()
    assert sorted(done) == list(range(50))
    assert not any(thread.is_alive() for thread in executor._threads)
