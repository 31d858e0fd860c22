"""When to renew."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.renewal import renewal_due, retry_delay
from tests.fixtures.clock import START


def test_renewal_is_due_at_half_of_the_lifetime_that_was_left() -> None:
    assert renewal_due(START, START + timedelta(minutes=20)) == START + timedelta(minutes=10)


@given(st.timedeltas(max_value=timedelta(days=400), min_value=timedelta(days=-400)))
def test_renewal_is_never_sooner_than_a_second_and_never_after_expiry(left: timedelta) -> None:
    due = renewal_due(START, START + left)
    assert due >= START + timedelta(seconds=1)
    assert due <= START + max(left, timedelta(seconds=1))


def test_the_delay_after_failures_doubles_up_to_half_a_minute() -> None:
    delays = [retry_delay(failures, 0.0).total_seconds() for failures in range(1, 10)]
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_chance_takes_up_to_a_quarter_off_the_delay(failures: int, random: float) -> None:
    longest = retry_delay(failures, 0.0)
    assert longest * 0.75 <= retry_delay(failures, random) <= longest
