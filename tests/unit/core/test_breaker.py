"""Who fails again and again is left alone for a while."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.breaker import Breaker

ZERO = timedelta(0)
SECONDS = [timedelta(seconds=seconds) for seconds in range(200)]


def broken(times: int, now: timedelta = ZERO) -> Breaker:
    breaker = Breaker()
    for _ in range(times):
        breaker = breaker.failed(now)
    return breaker


def test_it_opens_at_the_third_failure_in_a_row_and_longer_each_time() -> None:
    waits = [broken(times).wait(ZERO).total_seconds() for times in range(9)]
    assert waits == [0, 0, 0, 5, 10, 20, 40, 60, 60]


def test_how_long_it_is_open_may_be_told_otherwise() -> None:
    breaker = Breaker(shortest=SECONDS[1], longest=SECONDS[3])
    waits = []
    for _ in range(6):
        breaker = breaker.failed(ZERO)
        waits.append(breaker.wait(ZERO).total_seconds())
    assert waits == [0, 0, 1, 2, 3, 3]
    assert breaker.attempted(SECONDS[3]).wait(SECONDS[3]) == SECONDS[1]
    assert breaker.succeeded() == Breaker(shortest=SECONDS[1], longest=SECONDS[3])


def test_one_success_closes_it() -> None:
    assert broken(2).succeeded().failed(ZERO).wait(ZERO) == ZERO
    assert broken(9).succeeded() == Breaker()


def test_after_the_time_one_may_ask_and_the_others_wait_for_what_becomes_of_it() -> None:
    breaker = broken(3)
    assert breaker.wait(SECONDS[4]) == SECONDS[1]
    assert breaker.wait(SECONDS[5]) == ZERO
    probing = breaker.attempted(SECONDS[5])
    assert probing.wait(SECONDS[5]) == SECONDS[5]
    assert probing.failed(SECONDS[6]).wait(SECONDS[6]) == SECONDS[10]
    # Whoever asked and never came back blocks nobody for good.
    assert probing.wait(SECONDS[10]) == ZERO


def test_while_it_is_closed_anybody_may_ask() -> None:
    assert broken(2).attempted(ZERO).wait(ZERO) == ZERO


@given(st.integers(0, 10**6))
def test_nobody_waits_longer_than_a_minute(times: int) -> None:
    breaker = Breaker(failures=times).failed(ZERO)
    assert breaker.wait(ZERO) <= timedelta(minutes=1)
