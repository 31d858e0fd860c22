"""How many in a second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.token_bucket import Buckets, Rate, TokenBucket

FOUR = Rate(4)


def _had(bucket: TokenBucket, rate: Rate, now: float, asked: int = 1000) -> int:
    return sum(bucket.take(rate, now) for _ in range(asked))


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_new_bucket_gives_a_seconds_worth_at_once_and_then_as_time_goes_by() -> None:
    bucket = TokenBucket()
    assert _had(bucket, FOUR, 100.0) == 4
    assert _had(bucket, FOUR, 100.125) == 0
    assert _had(bucket, FOUR, 100.25) == 1
    assert _had(bucket, FOUR, 101.0) == 3


def test_nothing_is_saved_up_beyond_a_seconds_worth() -> None:
    bucket = TokenBucket()
    _had(bucket, FOUR, 0.0)
    assert _had(bucket, FOUR, 3600.0) == 4


def test_what_was_refused_costs_nothing() -> None:
    bucket = TokenBucket()
    _had(bucket, FOUR, 0.0, asked=1_000_000)
    assert bucket.take(FOUR, 0.25)


def test_one_in_a_second_is_one_in_a_second() -> None:
    bucket = TokenBucket()
    assert [_had(bucket, Rate(1), now) for now in (0.0, 0.5, 1.0, 1.5, 2.0)] == [1, 0, 1, 0, 1]


def test_another_rate_counts_at_once() -> None:
    bucket = TokenBucket()
    _had(bucket, FOUR, 0.0)
    # A second's worth was had, whatever a second's worth is.
    assert not bucket.take(Rate(1024), 0.0)
    assert _had(bucket, Rate(1024), 0.5) == 512
    assert _had(bucket, FOUR, 1.0) == 2


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 50)), min_size=1, max_size=60),
)
def test_no_stretch_of_time_has_more_than_the_rate_and_a_seconds_worth(
    per_second: int, steps: list[tuple[float, int]]
) -> None:
    rate, bucket, now = Rate(per_second), TokenBucket(), 0.0
    had: list[tuple[float, int]] = []
    for pause, asked in steps:
        now += pause
        had.append((now, _had(bucket, rate, now, asked)))
    for first, (begin, _) in enumerate(had):
        total = 0
        for end, count in had[first:]:
            total += count
            assert total <= per_second * (1 + end - begin) + 1e-6


@given(st.integers(1, 1000), st.lists(st.floats(1.0, 1.5), max_size=50))
def test_who_keeps_to_the_rate_is_never_refused(per_second: int, pauses: list[float]) -> None:
    rate, bucket, now = Rate(per_second), TokenBucket(), 0.0
    for pause in pauses:
        assert bucket.take(rate, now)
        now += pause / per_second + 1e-9


# Many buckets


def test_who_comes_back_finds_what_he_has_had() -> None:
    buckets: Buckets[str] = Buckets(_Clock())
    with buckets.held("one") as bucket:
        _had(bucket, FOUR, 0.0)
    with buckets.held("one") as bucket, buckets.held("another") as other:
        assert not bucket.take(FOUR, 0.0)
        assert other.take(FOUR, 0.0)


def test_two_connections_of_one_hold_one_bucket() -> None:
    buckets: Buckets[str] = Buckets(_Clock())
    with buckets.held("one") as first, buckets.held("one") as second:
        assert first is second


@pytest.mark.parametrize("comers", [100, 10_000])
def test_who_came_and_went_is_forgotten(comers: int) -> None:
    clock = _Clock()
    buckets: Buckets[int] = Buckets(clock)
    most = 0
    for number in range(comers):
        clock.now += 0.1
        with buckets.held(number) as bucket:
            assert bucket.take(FOUR, clock.now)
        most = max(most, len(buckets))
    assert most <= 64


def test_neither_who_is_here_nor_who_has_just_asked_is_forgotten() -> None:
    clock = _Clock()
    buckets: Buckets[object] = Buckets(clock)
    with buckets.held("here") as here:
        clock.now = 10.0
        asked = buckets.of("asked")
        _had(asked, FOUR, clock.now)
        for number in range(1000):
            buckets.of(number)
        assert len(buckets) < 200
        assert buckets.of("here") is here
        assert buckets.of("asked") is asked
    clock.now = 20.0
    for number in range(1000):
        buckets.of(number)
    assert buckets.of("here") is not here
    assert buckets.of("asked") is not asked
