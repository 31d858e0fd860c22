"""A circuit breaker: who fails again and again is left alone for a while."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

_THRESHOLD = 3
_SHORTEST = timedelta(seconds=5)
_LONGEST = timedelta(minutes=1)


@dataclass(frozen=True)
class Breaker:
    """Closed until three failures in a row, then open for the shortest time, doubling.

    While it is open nobody asks; after that one attempt decides. Times are of a steady clock.
    """

    failures: int = 0
    open_until: timedelta | None = None
    shortest: timedelta = _SHORTEST
    longest: timedelta = _LONGEST

    def wait(self, now: timedelta) -> timedelta:
        """How long nobody may ask; zero if somebody may."""
        return max(self.open_until - now, timedelta(0)) if self.open_until else timedelta(0)

    def succeeded(self) -> Breaker:
        """Closed again."""
        return replace(self, failures=0, open_until=None)

    def attempted(self, now: timedelta) -> Breaker:
        """Somebody asks: others wait for what becomes of it, once it had been open."""
        return replace(self, open_until=now + self.shortest) if self.open_until else self

    def failed(self, now: timedelta) -> Breaker:
        """One failure more."""
        failures = self.failures + 1
        if failures < _THRESHOLD:
            return replace(self, failures=failures)
        doubled = self.shortest * 2.0 ** min(failures - _THRESHOLD, 16)
        return replace(self, failures=failures, open_until=now + min(doubled, self.longest))
