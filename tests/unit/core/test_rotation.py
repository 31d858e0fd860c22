"""When a certificate is renewed, over whatever may happen in its life."""

from __future__ import annotations

import random as chance
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sidecar.core.rotation import Health, Moment, Rotation, RotationPolicy, retry_delay
from tests.fixtures.clock import START

LIFETIME = timedelta(minutes=20)
EXACT = RotationPolicy(renew_at=0.5, jitter=0.0)
ZERO = timedelta(0)
SECOND = timedelta(seconds=1)
CHANCE = st.floats(0, 1, exclude_max=True)


def at(wall: timedelta, steady: timedelta | None = None) -> Moment:
    return Moment(START + wall, wall if steady is None else steady)


def certified(policy: RotationPolicy = EXACT, lifetime: timedelta = LIFETIME) -> Rotation:
    state = Rotation.start(policy, at(ZERO))
    return state.succeeded(at(ZERO), START, START + lifetime, 0.5)


def test_the_first_certificate_is_due_at_once() -> None:
    state = Rotation.start(EXACT, at(ZERO))
    assert state.wait(at(ZERO)) == ZERO
    assert state.health(START) is Health.WAITING


@pytest.mark.parametrize("renew_at", [0.1, 0.5, 0.8])
def test_renewal_is_due_at_the_configured_fraction(renew_at: float) -> None:
    state = certified(RotationPolicy(renew_at, jitter=0.0))
    assert state.wait(at(ZERO)) == LIFETIME * renew_at
    assert state.next_attempt(at(SECOND)) == START + LIFETIME * renew_at


@given(CHANCE)
def test_jitter_moves_it_by_at_most_its_fraction(random: float) -> None:
    state = Rotation.start(RotationPolicy(0.5, 0.1), at(ZERO))
    due = state.succeeded(at(ZERO), START, START + LIFETIME, random).wait(at(ZERO))
    assert LIFETIME * 0.4 <= due <= LIFETIME * 0.6


def test_a_thousand_workloads_that_start_together_spread_out() -> None:
    generator = chance.Random(1)
    requests: Counter[int] = Counter()
    for _ in range(1000):
        state = certified(RotationPolicy(), LIFETIME)
        state = state.succeeded(at(ZERO), START, START + LIFETIME, generator.random())
        for _ in range(5):
            now = at(state.due)
            requests[int(now.steady.total_seconds())] += 1
            state = state.succeeded(now, now.wall, now.wall + LIFETIME, generator.random())
    # Evenly over the four minutes of jitter, it would be four a second in the first round.
    assert max(requests.values()) <= 16


@given(st.timedeltas(timedelta(days=-400), timedelta(days=400)), CHANCE)
def test_a_certificate_however_short_is_renewed_no_sooner_than_after_a_second(
    left: timedelta, random: float
) -> None:
    state = Rotation.start(RotationPolicy(), at(ZERO))
    state = state.succeeded(at(ZERO), START, START + left, random)
    assert SECOND <= state.wait(at(ZERO)) <= max(left, SECOND)


def test_one_that_is_taken_up_again_keeps_its_time_and_is_due_at_once_if_that_has_passed() -> None:
    state = Rotation.start(EXACT, at(ZERO))
    obtained = START - timedelta(minutes=4)
    assert state.succeeded(at(ZERO), obtained, obtained + LIFETIME, 0.5).wait(at(ZERO)) == (
        timedelta(minutes=6)
    )
    obtained = START - timedelta(minutes=15)
    assert state.succeeded(at(ZERO), obtained, obtained + LIFETIME, 0.5).wait(at(ZERO)) == ZERO


def test_failures_back_off_to_a_bound_and_a_success_resets_them() -> None:
    state, now, delays = certified(), at(LIFETIME / 2), []
    for _ in range(9):
        state = state.failed(now, 0.0)
        delays.append(state.wait(now).total_seconds())
        now = at(state.due)
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    state = state.succeeded(now, now.wall, now.wall + LIFETIME, 0.5).failed(now, 0.0)
    assert state.wait(now) == timedelta(seconds=0.5)


@given(st.integers(1, 10**9), CHANCE)
def test_chance_takes_up_to_half_off_the_delay(failures: int, random: float) -> None:
    longest = retry_delay(failures, 0.0)
    assert longest * 0.5 <= retry_delay(failures, random) <= longest


# Clocks


@pytest.mark.parametrize("jump", [timedelta(minutes=8), timedelta(minutes=-8), timedelta(days=9)])
def test_after_a_suspend_or_a_clock_that_was_set_it_is_renewed_at_once(jump: timedelta) -> None:
    minute = timedelta(minutes=1)
    state = certified().observed(at(minute))
    assert state.wait(at(minute)) == LIFETIME / 2 - minute
    now = at(minute + SECOND + jump, steady=minute + SECOND)
    assert state.observed(now).wait(now) == ZERO


def test_a_clock_that_is_slewed_is_no_jump() -> None:
    state = certified()
    for seconds in range(5, 500, 5):
        steady = timedelta(seconds=seconds)
        now = at(steady * 1.1, steady)
        state = state.observed(now)
        assert state.due == LIFETIME / 2


def test_a_clock_that_jumps_to_and_fro_does_not_storm_the_ca() -> None:
    state, requests = certified(), 0
    for seconds in range(1, 301):
        steady = timedelta(seconds=seconds)
        now = at(steady + timedelta(hours=seconds % 2), steady)
        state = state.observed(now)
        if state.wait(now) == ZERO:
            requests += 1
            state = state.succeeded(now, now.wall, now.wall + LIFETIME, 0.5)
    assert 1 <= requests <= 300 / 30


# Keys that the token lost


def test_a_lost_key_is_replaced_at_once_and_those_after_it_with_a_growing_delay() -> None:
    state, now, delays = certified(), at(SECOND), []
    for _ in range(4):
        state = state.lost(now, 0.0)
        delays.append(state.wait(now).total_seconds())
        now = at(state.due)
        state = state.succeeded(now, now.wall, now.wall + LIFETIME, 0.5)
    assert delays == [0, 0.5, 1, 2]
    # A renewal that nobody had to ask for ends that.
    now = at(state.due)
    state = state.succeeded(now, now.wall, now.wall + LIFETIME, 0.5).lost(now, 0.0)
    assert state.wait(now) == ZERO


# Roots that settle


def test_a_renewal_waits_for_roots_to_settle_but_not_into_the_last_fifth() -> None:
    state, now = certified(), at(LIFETIME / 2)
    minute = timedelta(minutes=1)
    assert state.postponed(now, now.wall + minute, 0.5).wait(now) == minute
    assert state.postponed(now, now.wall + LIFETIME, 0.5).wait(now) == LIFETIME * 0.3
    assert state.postponed(now, now.wall - minute, 0.5).wait(now) == ZERO


@pytest.mark.parametrize("settled", [LIFETIME * 0.45, LIFETIME * 0.6, LIFETIME])
def test_a_thousand_workloads_that_wait_for_the_same_root_do_not_go_on_together(
    settled: timedelta,
) -> None:
    generator = chance.Random(1)
    requests: Counter[int] = Counter()
    for _ in range(1000):
        state = Rotation.start(RotationPolicy(), at(ZERO))
        state = state.succeeded(at(ZERO), START, START + LIFETIME, generator.random())
        now = at(state.due)
        state = state.postponed(now, START + settled, generator.random())
        requests[int(state.due.total_seconds())] += 1
    # Twice the most of a renewal that waits for nothing.
    assert max(requests.values()) <= 32


def test_whoever_has_no_certificate_or_no_key_waits_for_no_roots() -> None:
    now = at(SECOND)
    for state in (Rotation.start(EXACT, now), certified().lost(now, 0.0)):
        assert state.postponed(now, now.wall + LIFETIME, 0.5).wait(now) == ZERO


# Alarms


def test_the_alarm_rises_as_the_end_comes_near() -> None:
    state = certified()
    seen = [state.health(START + LIFETIME * part) for part in (0, 0.5, 0.74, 0.76, 0.91, 1.0, 2.0)]
    assert seen == [
        Health.VALID,
        Health.VALID,
        Health.VALID,
        Health.LATE,
        Health.CRITICAL,
        Health.EXPIRED,
        Health.EXPIRED,
    ]


@given(st.floats(0.01, 0.9), st.floats(0, 0.5), CHANCE)
@example(0.9, 0.05, 0.99)
def test_no_renewal_that_is_in_time_raises_an_alarm(
    renew_at: float, jitter: float, random: float
) -> None:
    assume(jitter < renew_at and renew_at + jitter < 0.99)
    state = Rotation.start(RotationPolicy(renew_at, jitter), at(ZERO))
    state = state.succeeded(at(ZERO), START, START + LIFETIME, random)
    assert state.health(state.next_attempt(at(ZERO))) is Health.VALID


class AnyLife(RuleBasedStateMachine):
    """Whatever happens in whatever order."""

    @initialize()
    def begin(self) -> None:
        self.wall, self.steady = ZERO, ZERO
        self.state = Rotation.start(RotationPolicy(), self.now)

    @property
    def now(self) -> Moment:
        return at(self.wall, self.steady)

    @rule(by=st.timedeltas(ZERO, timedelta(minutes=30)))
    def time_passes(self, by: timedelta) -> None:
        self.wall, self.steady = self.wall + by, self.steady + by
        self.state = self.state.observed(self.now)

    @rule(by=st.timedeltas(timedelta(days=-30), timedelta(days=30)))
    def the_clock_is_set(self, by: timedelta) -> None:
        self.wall += by
        before = self.state
        self.state = self.state.observed(self.now)
        # Never later than planned, and never sooner than the floor after the last attempt.
        assert self.state.due <= before.due
        if before.attempted is not None:
            floor = before.attempted + timedelta(seconds=30)
            assert self.state.due >= min(before.due, floor)

    @rule(minutes=st.integers(1, 1500), random=CHANCE)
    def succeeds(self, minutes: int, random: float) -> None:
        now = self.now
        lifetime = timedelta(minutes=minutes)
        self.state = self.state.succeeded(now, now.wall, now.wall + lifetime, random)
        assert lifetime * 0.39 < self.state.wait(now) < lifetime * 0.61
        assert self.state.health(now.wall) is Health.VALID

    @rule(random=CHANCE)
    def fails(self, random: float) -> None:
        before = self.state
        self.state = self.state.failed(self.now, random)
        assert timedelta(seconds=0.25) <= self.state.wait(self.now) <= timedelta(seconds=30)
        # Nothing is taken away.
        assert (self.state.obtained, self.state.not_after) == (before.obtained, before.not_after)

    @rule(random=CHANCE)
    def key_is_lost(self, random: float) -> None:
        self.state = self.state.lost(self.now, random)
        assert self.state.wait(self.now) <= timedelta(seconds=30)

    @rule(by=st.timedeltas(ZERO, timedelta(days=2)), random=CHANCE)
    def roots_change(self, by: timedelta, random: float) -> None:
        before = self.state
        self.state = self.state.postponed(self.now, self.now.wall + by, random)
        # Never sooner than planned, and never into the last fifth.
        assert self.state.due >= before.due
        if self.state.wait(self.now) > before.wait(self.now):
            assert before.obtained is not None
            assert before.not_after is not None
            end = before.not_after - (before.not_after - before.obtained) * 0.2
            assert self.state.next_attempt(self.now) <= end

    @invariant()
    def it_is_always_due_some_time(self) -> None:
        if hasattr(self, "state"):
            assert self.state.wait(self.now) >= ZERO
            assert self.state.next_attempt(self.now) >= self.now.wall


TestAnyLife = AnyLife.TestCase
