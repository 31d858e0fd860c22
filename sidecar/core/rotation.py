"""When a certificate is renewed: a state machine without a clock and without chance of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

# Sooner than this after it was obtained no certificate is renewed, however short it lives.
_SOONEST = timedelta(seconds=1)
# Wall clock and steady clock run apart by this much: a suspended machine, or a clock that was set.
_JUMP = timedelta(seconds=10)
# A clock that jumps to and fro makes no more requests than one in this time.
_JUMP_FLOOR = timedelta(seconds=30)
_LONGEST_BACK_OFF = timedelta(seconds=30)
# What must be left of the lifetime for a renewal to wait for roots to settle.
_RESERVE = 0.2
_CRITICAL = 0.1


@dataclass(frozen=True)
class Moment:
    """One point in time on both clocks."""

    # What certificates are compared with; somebody may set it.
    wall: datetime
    # Since some start; never set, and stands still while the machine is suspended.
    steady: timedelta


class Health(Enum):
    """How an identity is doing, from best to worst."""

    VALID = "valid"
    # There is no certificate yet.
    WAITING = "waiting"
    # It should have been renewed long ago: half of what then was left is gone too.
    LATE = "late"
    # Three quarters of it are gone, and a tenth of the lifetime or less is left.
    CRITICAL = "critical"
    # The certificate is valid still, and no CA has answered for longer than its lease.
    LAPSED = "lapsed"
    EXPIRED = "expired"
    # It was ended on command, and is to be so.
    DEPROVISIONED = "deprovisioned"


@dataclass(frozen=True)
class RotationPolicy:
    """Renewal at `renew_at` of the lifetime, give or take `jitter` of it."""

    renew_at: float = 0.5
    jitter: float = 0.1


@dataclass(frozen=True)
class Rotation:
    """Each event gives the state after it. `random` is always in [0, 1).

    A thousand workloads that start together do not stay together: jitter spreads each of
    their renewals anew.
    """

    policy: RotationPolicy
    seen: Moment
    due: timedelta
    attempted: timedelta | None = None
    obtained: datetime | None = None
    not_after: datetime | None = None
    failures: int = 0
    # Keys in a row that the token lost before their time.
    losses: int = 0
    replacing: bool = False

    @classmethod
    def start(cls, policy: RotationPolicy, now: Moment) -> Rotation:
        """Without a certificate: due at once."""
        return cls(policy, now, now.steady)

    def wait(self, now: Moment) -> timedelta:
        """How long it is until the next attempt; zero if it is due."""
        return max(self.due - now.steady, timedelta(0))

    def next_attempt(self, now: Moment) -> datetime:
        """The same as a date."""
        return now.wall + self.wait(now)

    def observed(self, now: Moment) -> Rotation:
        """Looks at the clocks: after a jump the certificate is renewed at once.

        A clock that was wrong before says nothing about how long the certificate still lives
        for others. Look more often than every ten seconds.
        """
        apart = (now.wall - self.seen.wall) - (now.steady - self.seen.steady)
        state = replace(self, seen=now)
        if abs(apart) < _JUMP:
            return state
        soonest = now.steady
        if self.attempted is not None:
            soonest = max(soonest, self.attempted + _JUMP_FLOOR)
        return replace(state, due=min(self.due, soonest))

    def succeeded(
        self, now: Moment, obtained: datetime, not_after: datetime, random: float
    ) -> Rotation:
        """There is a new certificate. An earlier `obtained`: it was taken up again.

        Counted from `obtained` because CAs backdate not_before: half of a short lifetime
        could lie in the past and would storm the CA.
        """
        fraction = self.policy.renew_at + self.policy.jitter * (2.0 * random - 1.0)
        life = max((not_after - obtained) * fraction, _SOONEST)
        return replace(
            self,
            due=now.steady + max(obtained + life - now.wall, timedelta(0)),
            attempted=now.steady,
            obtained=obtained,
            not_after=not_after,
            failures=0,
            losses=self.losses if self.replacing else 0,
            replacing=False,
        )

    def failed(self, now: Moment, random: float) -> Rotation:
        """The attempt failed: tried again after a growing delay."""
        failures = self.failures + 1
        return replace(
            self,
            failures=failures,
            attempted=now.steady,
            due=now.steady + retry_delay(failures, random),
        )

    def lost(self, now: Moment, random: float) -> Rotation:
        """The token has the key no more: replaced at once, and if that goes on, less and less."""
        losses = self.losses + 1
        delay = retry_delay(losses - 1, random) if losses > 1 else timedelta(0)
        return replace(self, losses=losses, replacing=True, due=now.steady + delay)

    def anew(self, now: Moment) -> Rotation:
        """There is no certificate any more, as at the start."""
        return replace(Rotation.start(self.policy, now), attempted=self.attempted)

    def postponed(self, now: Moment, until: datetime, random: float) -> Rotation:
        """Waits for something outside, but not so long that the certificate comes near its end.

        Others wait for the same thing, so it is a little longer: they do not go on together.
        """
        if self.obtained is None or self.not_after is None or self.replacing or until <= now.wall:
            return self
        life = self.not_after - self.obtained
        spread = life * self.policy.jitter * random
        wait = min(until + spread, self.not_after - life * _RESERVE - spread) - now.wall
        return replace(self, due=max(self.due, now.steady + wait))

    def health(self, wall: datetime) -> Health:
        """How the certificate is doing at `wall`."""
        if self.obtained is None or self.not_after is None:
            return Health.WAITING
        left = (self.not_after - wall) / max(self.not_after - self.obtained, _SOONEST)
        if left <= 0:
            return Health.EXPIRED
        at_renewal = 1.0 - self.policy.renew_at - self.policy.jitter
        # A late renewal that is as it was configured is no alarm.
        if left < min(_CRITICAL, at_renewal / 4):
            return Health.CRITICAL
        return Health.LATE if left < at_renewal / 2 else Health.VALID


def retry_delay(failures: int, random: float) -> timedelta:
    """How long to wait after the `failures`-th failure in a row (counted from 1).

    Doubles from 0.5 s to 30 s; `random` in [0, 1) takes up to half off, so that
    sidecars that lost their CA together do not come back together.
    """
    delay = min(timedelta(seconds=0.5 * 2.0 ** min(failures - 1, 16)), _LONGEST_BACK_OFF)
    return delay * (1.0 - 0.5 * random)
