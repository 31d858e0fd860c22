"""Many use the module, or one restarts it."""

from __future__ import annotations

import threading

import pytest

from sidecar.token.gate import Gate, Hung
from tests.fixtures.waiting import BOUND_S, eventually


def _start(work: threading.Thread) -> threading.Thread:
    work.daemon = True
    work.start()
    return work


def test_many_threads_hold_the_gate_open_at_once() -> None:
    gate, together = Gate(), threading.Barrier(8)

    def use() -> None:
        with gate.shared():
            together.wait(BOUND_S)

    threads = [_start(threading.Thread(target=use)) for _ in range(8)]
    for thread in threads:
        thread.join(BOUND_S)
    assert not together.broken


def test_a_restart_waits_until_every_user_has_left() -> None:
    gate, leave, restarted = Gate(), threading.Event(), threading.Event()
    inside = threading.Semaphore(0)

    def use() -> None:
        with gate.shared():
            inside.release()
            assert leave.wait(BOUND_S)
            assert not restarted.is_set()

    def restart() -> None:
        with gate.exclusive():
            restarted.set()

    users = [_start(threading.Thread(target=use)) for _ in range(3)]
    for _ in users:
        assert inside.acquire(timeout=BOUND_S)
    restarting = _start(threading.Thread(target=restart))
    eventually(lambda: gate._closed, "the restart waits")
    assert not restarted.is_set()
    leave.set()
    restarting.join(BOUND_S)
    assert restarted.is_set()


def test_nobody_enters_during_a_restart_or_while_one_waits() -> None:
    gate, entered = Gate(), threading.Event()
    waiting = threading.Event()

    def use() -> None:
        waiting.set()
        with gate.shared():
            entered.set()

    with gate.exclusive():
        user = _start(threading.Thread(target=use))
        assert waiting.wait(BOUND_S)
        assert not entered.is_set()
        assert gate._users == 0
    user.join(BOUND_S)
    assert entered.is_set()


def test_restarts_take_turns() -> None:
    gate, inside, most = Gate(), 0, 0
    lock = threading.Lock()

    def restart() -> None:
        nonlocal inside, most
        for _ in range(200):
            with gate.exclusive():
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1

    threads = [_start(threading.Thread(target=restart)) for _ in range(4)]
    for thread in threads:
        thread.join(BOUND_S)
    assert most == 1


def test_an_error_inside_leaves_the_gate_usable() -> None:
    gate = Gate()
    with pytest.raises(ZeroDivisionError), gate.shared():
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), gate.exclusive():
        raise ZeroDivisionError
    with gate.exclusive():
        pass
    with gate.shared():
        pass


def test_a_restart_that_waits_in_vain_leaves_the_gate_open() -> None:
    gate, inside, leave = Gate(), threading.Event(), threading.Event()

    def hang() -> None:
        with gate.shared():
            inside.set()
            leave.wait(BOUND_S)

    hanging = _start(threading.Thread(target=hang))
    assert inside.wait(BOUND_S)
    for _ in range(2):
        with pytest.raises(Hung), gate.exclusive(0.01):
            pass
        with gate.shared():
            pass
    leave.set()
    hanging.join(BOUND_S)
    with gate.exclusive(BOUND_S):
        pass
