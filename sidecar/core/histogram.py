"""Durations, counted in fixed buckets: what is left of them when nobody keeps each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate


class Histogram:
    """How many seconds something took, how often. Not thread-safe.

    `bounds` are the upper ends of the buckets, ascending, each belonging to its bucket; what
    is longer than the last counts too. To observe costs a fraction of a microsecond.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    @property
    def sum(self) -> float:
        """Of all that was observed, in seconds."""
        return self._sum

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Each bound, infinity last, and how many took that long or less."""
        return zip((*self._bounds, float("inf")), accumulate(self._counts), strict=True)

    def copy(self) -> Histogram:
        """One that nobody adds to."""
        made = Histogram(self._bounds)
        made._counts = self._counts.copy()
        made._sum = self._sum
        return made
