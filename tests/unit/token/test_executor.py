"""Blocking work beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sidecar.core.token_bucket import TokenBucket
from sidecar.errors import NoSuchKey, PinLocked, SignerBusy, TokenError, TokenUnavailable
from sidecar.token import executor as module
from sidecar.token.base import KeyId
from sidecar.token.executor import UPKEEP, Caller, TokenExecutor
from sidecar.token.lanes import Lane, Purpose
from tests.fixtures.waiting import BOUND_S, settle, soon

KEY, ANOTHER_KEY = KeyId(b"key"), KeyId(b"another")
CLIENT, SERVER = Lane(Purpose.CLIENT), Lane(Purpose.SERVER)


def _submit(
    executor: TokenExecutor,
    work: Callable[[], object],
    done: Callable[[Any], None],
    lane: Lane = SERVER,
    caller: Caller | None = None,
) -> None:
    executor.submit(
        lane, work, lambda result, _: done(result), limit=BOUND_S, caller=caller or Caller()
    )


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


async def test_a_full_lane_is_busy_and_takes_work_again_later(executor: TokenExecutor) -> None:
    release = threading.Event()
    running = [asyncio.create_task(executor.run(lambda: release.wait(BOUND_S))) for _ in range(2)]
    await soon(lambda: len(executor._running) == 2)
    running += [asyncio.create_task(executor.run(lambda: release.wait(BOUND_S))) for _ in range(4)]
    await settle()
    with pytest.raises(SignerBusy, match="4 operations are waiting for the token"):
        await executor.run(lambda: None)
    # A full lane fills no other.
    other: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    executor.submit(CLIENT, lambda: "served", lambda r, _: other.set_result(r), limit=BOUND_S)
    release.set()
    assert await other == "served"
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
        _submit(executor, lambda number=number: number, done.append)  # type: ignore[misc]
    _submit(executor, finished.set, lambda _: done.append(-1))
    # The loop stands still until the thread has done everything.
    assert finished.wait(BOUND_S)
    await soon(lambda: len(done) == 51)
    assert done == [*range(50), -1]
    assert len(wake_ups) <= 3
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
        _submit(executor, lambda number=number: done.append(number), lambda _: None)  # type: ignore[misc]
    executor.close()
    assert sorted(done) == list(range(50))
    assert not any(thread.is_alive() for thread in executor._threads)


# Lanes, callers and deadlines


async def test_a_flood_in_one_lane_does_not_keep_another_waiting() -> None:
    executor = TokenExecutor(threads=1, backlog=1000)
    order: list[str] = []
    release = threading.Event()
    _submit(executor, lambda: release.wait(BOUND_S), lambda _: None)
    for _ in range(500):
        _submit(executor, lambda: None, lambda _: order.append("server"))
    for _ in range(5):
        _submit(executor, lambda: None, lambda _: order.append("client"), CLIENT)
    release.set()
    await soon(lambda: len(order) == 505)
    assert order.index("client") < 50
    executor.close()


async def test_a_caller_waits_for_one_piece_of_work_of_a_flooder_on_the_same_lane() -> None:
    executor = TokenExecutor(threads=1, backlog=1000)
    order: list[str] = []
    release = threading.Event()
    _submit(executor, lambda: release.wait(BOUND_S), lambda _: None)
    # The flooder's two connections are one process, and so one flow.
    bucket = TokenBucket()
    floods, honest = [Caller(bucket=bucket), Caller(bucket=bucket)], Caller()
    for number in range(512):
        _submit(executor, list, lambda _: order.append("flood"), caller=floods[number % 2])
    for _ in range(3):
        _submit(executor, list, lambda _: order.append("honest"), caller=honest)
    release.set()
    await soon(lambda: len(order) == 515)
    assert order[:6].count("honest") == 3
    executor.close()


async def test_what_has_to_leave_a_full_lane_is_answered_busy_and_not_begun() -> None:
    executor = TokenExecutor(threads=1, backlog=4)
    began, release = threading.Event(), threading.Event()
    ran: list[str] = []
    answers: list[tuple[str, BaseException | None]] = []

    def hold() -> None:
        began.set()
        release.wait(BOUND_S)

    _submit(executor, hold, lambda _: None)
    await soon(began.is_set)

    def ask(name: str, caller: Caller) -> None:
        executor.submit(
            SERVER,
            lambda: ran.append(name),
            lambda _, error: answers.append((name, error)),
            limit=BOUND_S,
            caller=caller,
        )

    flooder, honest = Caller(), Caller()
    for number in range(4):
        ask(f"flood {number}", flooder)
    ask("honest 0", honest)
    assert not answers, "an answer comes with the loop's next turn, not from within a call"
    await soon(lambda: answers)
    ((name, error),) = answers
    assert name == "flood 3"
    assert isinstance(error, SignerBusy)
    with pytest.raises(SignerBusy, match="4 operations are waiting"):
        ask("flood 4", flooder)
    release.set()
    await soon(lambda: not executor.pending)
    assert ran == ["flood 0", "honest 0", "flood 1", "flood 2"]
    assert len(answers) == 5
    executor.close()


async def test_work_of_a_caller_who_is_gone_is_not_begun() -> None:
    executor = TokenExecutor(threads=1, backlog=10)
    release, caller = threading.Event(), Caller()
    begun: list[int] = []
    errors: list[BaseException | None] = []
    _submit(executor, lambda: release.wait(BOUND_S), lambda _: None)
    executor.submit(
        SERVER,
        lambda: begun.append(1),
        lambda _, error: errors.append(error),
        limit=BOUND_S,
        caller=caller,
    )
    caller.gone = True
    release.set()
    await soon(lambda: errors)
    assert not begun
    assert executor.pending == 0
    executor.close()


async def test_work_that_waited_past_its_limit_is_answered_busy_and_not_begun() -> None:
    executor = TokenExecutor(threads=1, backlog=10)
    release = threading.Event()
    begun: list[int] = []
    errors: list[BaseException | None] = []
    _submit(executor, lambda: release.wait(BOUND_S), lambda _: None)
    executor.submit(
        SERVER, lambda: begun.append(1), lambda _, error: errors.append(error), limit=0.01
    )
    await soon(lambda: errors)
    assert isinstance(errors[0], SignerBusy)
    release.set()
    assert await executor.run(lambda: "goes on") == "goes on"
    assert not begun
    executor.close()


async def test_who_is_in_a_hurry_does_not_make_a_token_that_answers_look_gone() -> None:
    executor = TokenExecutor(threads=1, backlog=10)
    for _ in range(3):
        release = threading.Event()
        answers: list[object] = []
        executor.submit(
            SERVER,
            lambda release=release: release.wait(BOUND_S),  # type: ignore[misc]
            lambda result, error, answers=answers: answers.append(error or result),  # type: ignore[misc]
            limit=BOUND_S,
            patience=0.05,
            key_id=KEY,
        )
        await soon(lambda: executor._running)
        looks = executor._watch
        # The watchdog has looked, long after the patience has come to its end.
        await soon(lambda looks=looks: executor._watch is not looks)  # type: ignore[misc]
        assert (answers, executor.hung) == ([], 0)
        release.set()
        await soon(lambda answers=answers: answers)  # type: ignore[misc]
        assert answers == [True]
    assert await _asked(executor, lambda: "signed", KEY) == "signed"
    executor.close()


# A module that does not return


async def test_a_hung_call_is_answered_and_new_work_refused_until_it_returns() -> None:
    executor = TokenExecutor(threads=1, backlog=10)
    release = threading.Event()
    with pytest.raises(TokenUnavailable, match=r"did not return within 0\.01 s"):
        await executor.run(lambda: release.wait(BOUND_S), limit=0.01)
    await soon(lambda: executor._all_hung)
    assert executor.hung == 1
    with pytest.raises(TokenUnavailable, match="does not return from a call"):
        await executor.run(lambda: "never begun")
    release.set()
    await soon(lambda: executor.hung == 0)
    # The first work after its return is done: nobody waits for the next look of the watchdog.
    assert await executor.run(lambda: "back") == "back"
    executor.close()


async def test_one_hung_thread_leaves_the_others_at_work(executor: TokenExecutor) -> None:
    release = threading.Event()
    with pytest.raises(TokenUnavailable, match="did not return"):
        await executor.run(lambda: release.wait(BOUND_S), limit=0.01)
    for _ in range(5):
        assert await executor.run(lambda: "served") == "served"
    release.set()


async def test_what_a_hung_call_returns_at_last_is_told_to_nobody() -> None:
    executor = TokenExecutor(threads=1, backlog=10)
    release = threading.Event()
    answers: list[tuple[object, object]] = []
    executor.submit(
        SERVER,
        lambda: release.wait(BOUND_S),
        lambda result, error: answers.append((result, error)),
        limit=0.01,
    )
    await soon(lambda: answers)
    release.set()
    await soon(lambda: executor.hung == 0)
    await executor.run(lambda: None)
    assert len(answers) == 1
    assert executor.pending == 0
    executor.close()


async def test_results_of_fast_work_do_not_wait_for_work_that_hangs_behind_them() -> None:
    executor = TokenExecutor(threads=1, backlog=100)
    hold, release, done = threading.Event(), threading.Event(), list[object]()
    first: list[object] = []
    _submit(executor, lambda: None, first.append)
    await soon(lambda: first)
    _submit(executor, lambda: hold.wait(BOUND_S), first.append)
    for number in range(3):
        _submit(executor, lambda number=number: number, done.append)  # type: ignore[misc]
    _submit(executor, lambda: release.wait(BOUND_S), first.append)
    hold.set()
    await soon(lambda: len(done) == 3)
    assert len(first) == 2
    release.set()
    executor.close()


async def test_closing_does_not_wait_for_ever_for_a_module_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_CLOSE_S", 0.01)
    executor = TokenExecutor(threads=1, backlog=10)
    release, entered = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        release.wait(BOUND_S)

    _submit(executor, hang, lambda _: None)
    assert entered.wait(BOUND_S)
    executor.close()
    release.set()


# A token that is gone


def _gone() -> None:
    raise TokenUnavailable("the token left")


async def _asked(executor: TokenExecutor, work: Callable[[], object], key_id: KeyId) -> object:
    answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    executor.submit(
        SERVER,
        work,
        lambda result, error: answered.set_result(error or result),
        limit=BOUND_S,
        key_id=key_id,
    )
    return await answered


async def test_a_token_that_is_gone_is_asked_by_one_at_a_time_and_upkeep_goes_through(
    executor: TokenExecutor,
) -> None:
    now = 0.0
    executor._outages._clock = lambda: now
    for _ in range(3):
        assert isinstance(await _asked(executor, _gone, KEY), TokenUnavailable)
    with pytest.raises(TokenUnavailable, match="the token left; it is asked again soon"):
        await _asked(executor, lambda: "never begun", KEY)
    assert executor.pending == 0
    assert await executor.run(lambda: "made a key") == "made a key"
    assert await _asked(executor, lambda: "signed", ANOTHER_KEY) == "signed"
    now = 0.2
    release = threading.Event()
    probe = asyncio.create_task(_asked(executor, lambda: release.wait(BOUND_S), KEY))
    await settle()
    with pytest.raises(TokenUnavailable, match="by one at a time"):
        await _asked(executor, lambda: "never begun", KEY)
    release.set()
    assert await probe is True
    assert await _asked(executor, lambda: "signed", KEY) == "signed"


async def test_who_was_to_find_out_and_left_keeps_nobody_else_from_it() -> None:
    executor = TokenExecutor(threads=1, backlog=10)
    now = 0.0
    executor._outages._clock = lambda: now
    for _ in range(3):
        await _asked(executor, _gone, KEY)
    now = 0.2
    release, leaving = threading.Event(), Caller()
    errors: list[BaseException | None] = []
    _submit(executor, lambda: release.wait(BOUND_S), lambda _: None)
    executor.submit(
        SERVER,
        lambda: "never begun",
        lambda _, error: errors.append(error),
        limit=BOUND_S,
        caller=leaving,
        key_id=KEY,
    )
    leaving.gone = True
    release.set()
    await soon(lambda: errors)
    assert await _asked(executor, lambda: "signed", KEY) == "signed"
    executor.close()


async def test_a_full_lane_lets_nobody_find_out_and_shuts_nobody_out() -> None:
    executor = TokenExecutor(threads=1, backlog=1)
    now = 0.0
    executor._outages._clock = lambda: now
    for _ in range(3):
        await _asked(executor, _gone, KEY)
    now = 0.2
    began, release = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        release.wait(BOUND_S)

    _submit(executor, hold, lambda _: None)
    await soon(began.is_set)
    _submit(executor, lambda: None, lambda _: None)
    with pytest.raises(SignerBusy):
        await _asked(executor, lambda: "never begun", KEY)
    release.set()
    await soon(lambda: not executor.pending)
    assert await _asked(executor, lambda: "signed", KEY) == "signed"
    executor.close()


# What there is to see of it


@pytest.mark.parametrize(
    ("error", "reachable"),
    [
        (TokenUnavailable("gone"), False),
        (PinLocked("locked"), False),
        (NoSuchKey("no key 0a1f"), True),
    ],
)
async def test_the_last_answer_says_whether_the_token_is_there(
    executor: TokenExecutor, error: TokenError, reachable: bool
) -> None:
    def fail(error: Exception) -> None:
        raise error

    assert executor.reachable
    with pytest.raises(type(error)):
        await executor.run(lambda: fail(error))
    assert executor.reachable is reachable
    with pytest.raises(ZeroDivisionError):
        await executor.run(lambda: fail(ZeroDivisionError()))
    assert executor.reachable is reachable, "an error that is not the token's says nothing"
    await executor.run(lambda: None)
    assert executor.reachable


async def test_a_lane_shows_what_waits_in_it_and_how_long_the_rest_took() -> None:
    executor = TokenExecutor(threads=1, backlog=10)
    began, release = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        release.wait(BOUND_S)

    _submit(executor, hold, lambda _: None)
    await soon(began.is_set)
    for _ in range(3):
        _submit(executor, lambda: None, lambda _: None, CLIENT)
    assert {lane.name: state.waiting for lane, state in executor.lanes().items()} == {
        "upkeep": 0,
        "audit": 0,
        "client": 3,
        "client-slow": 0,
        "server": 0,
        "server-slow": 0,
    }
    release.set()
    await soon(lambda: not executor.pending)
    executor.close()
    done = {lane: [*state.times.cumulative()][-1][1] for lane, state in executor.lanes().items()}
    assert (done[CLIENT], done[SERVER], done[UPKEEP]) == (3, 1, 0)
