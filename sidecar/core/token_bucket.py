"""Token buckets: how many of something may be had in a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

_K = TypeVar("_K")
# So many buckets are kept before anybody looks which of them are of use.
_FEW = 64
# A second is not exactly the sum of its parts.
_ROUNDING_S = 1e-9


@dataclass(frozen=True)
class Rate:
    """So many in a second, for ever; after a pause, a second's worth at once."""

    per_second: int

    @cached_property
    def interval(self) -> float:
        """Seconds from one to the next, when all come evenly."""
        return 1.0 / self.per_second

    @cached_property
    def ahead(self) -> float:
        """Seconds by which one may come before its time."""
        return 1.0 - self.interval + _ROUNDING_S


class TokenBucket:
    """What one caller, or one key, has had of its rate. Times are seconds of a steady clock.

    As one number (GCRA): when the bucket is full again. The rate is told each time, so a
    changed one counts at once, and for what was had before.
    """

    __slots__ = ("_full_at", "holders")

    def __init__(self) -> None:
        self._full_at = 0.0
        # Who comes back to this very object.
        self.holders = 0

    def take(self, rate: Rate, now: float) -> bool:
        """Takes one; false, and nothing is taken, where the rate does not allow it now."""
        due = max(self._full_at, now)
        if due - now > rate.ahead:
            return False
        self._full_at = due + rate.interval
        return True

    def is_full(self, now: float) -> bool:
        """Whether it is as good as a new one."""
        return self._full_at <= now


class Buckets(Generic[_K]):
    """A bucket for each key, as long as it says anything that a new one would not.

    So whoever goes and comes back finds what he has had, and there are no more than twice
    those that are held or were taken from within a second.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[_K, TokenBucket] = {}
        self._sweep_at = _FEW

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, key: _K) -> TokenBucket:
        """The bucket of `key`."""
        if (bucket := self._buckets.get(key)) is None:
            if len(self._buckets) >= self._sweep_at:
                self._sweep()
            bucket = self._buckets[key] = TokenBucket()
        return bucket

    @contextmanager
    def held(self, key: _K) -> Iterator[TokenBucket]:
        """The same, and it stays the bucket of `key` while the context is open."""
        bucket = self.of(key)
        bucket.holders += 1
        try:
            yield bucket
        finally:
            bucket.holders -= 1

    def _sweep(self) -> None:
        now = self._clock()
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if bucket.holders or not bucket.is_full(now)
        }
        self._sweep_at = max(_FEW, 2 * len(self._buckets))
