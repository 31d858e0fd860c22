"""Durations in buckets."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.histogram import Histogram

BOUNDS = (0.1, 0.5, 2.0)


def test_nothing_is_zero_everywhere() -> None:
    empty = Histogram(BOUNDS)
    assert dict(empty.cumulative()) == {0.1: 0, 0.5: 0, 2.0: 0, math.inf: 0}
    assert empty.sum == 0


def test_a_bound_belongs_to_its_bucket_and_what_is_longer_counts_too() -> None:
    times = Histogram(BOUNDS)
    for seconds in (0.0, 0.1, 0.11, 2.0, 1000.0):
        times.observe(seconds)
    assert dict(times.cumulative()) == {0.1: 2, 0.5: 3, 2.0: 4, math.inf: 5}
    assert times.sum == 1002.21


@given(st.lists(st.floats(min_value=0, max_value=10)))
def test_each_bucket_holds_all_that_took_as_long_or_less(observed: list[float]) -> None:
    times = Histogram(BOUNDS)
    for seconds in observed:
        times.observe(seconds)
    for bound, count in times.cumulative():
        assert count == sum(seconds <= bound for seconds in observed)


def test_a_copy_stays_as_it_is() -> None:
    times = Histogram(BOUNDS)
    times.observe(0.2)
    copy = times.copy()
    times.observe(0.2)
    assert (dict(copy.cumulative())[0.5], copy.sum) == (1, 0.2)
