"""Keeps whoever can cause log lines from flooding the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_INTERVAL_S = 1.0


@dataclass
class _State:
    logged: float
    suppressed: int = 0


class Quiet:
    """At most one line a second for each kind of event. Use it from one thread only."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._states: dict[object, _State] = {}

    def suppressed(self, kind: object) -> int | None:
        """`None`: do not log this one. Otherwise how many of its kind were not logged before.

        Kinds are remembered for good, so they must come from a small closed set.
        """
        now = self._clock()
        state = self._states.get(kind)
        if state and now - state.logged < _INTERVAL_S:
            state.suppressed += 1
            return None
        self._states[kind] = _State(now)
        return state.suppressed if state else 0
