"""Which work waits behind which: lanes that share a token's time fairly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from sidecar.core.histogram import Histogram
from sidecar.errors import SignerBusy
from sidecar.token.turns import Turns

_J = TypeVar("_J")
# How much the newest measurement counts for a lane's expected cost.
_NEWEST = 0.2
# From a signature in software to an RSA key that a TPM makes.
_OPERATION_S = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 60, 180),
)


class Purpose(Enum):
    """For whom a token works."""

    # Keys, CSRs and certificates: what keeps an identity alive.
    UPKEEP = "upkeep"
    CLIENT = "client"
    # A server signs before its peer is authenticated: anyone who can connect can ask.
    SERVER = "server"
    # Seals of the audit log. Little, and apart: a key that takes a minute delays none.
    AUDIT = "audit"


@dataclass(frozen=True)
class Lane:
    """Work of one purpose and pace. Slow work (RSA) never stands before fast work."""

    purpose: Purpose
    slow: bool = False

    @property
    def name(self) -> str:
        return f"{self.purpose.value}-slow" if self.slow else self.purpose.value


# There are no others: upkeep and seals are not sorted by pace.
LANES = (
    Lane(Purpose.UPKEEP),
    Lane(Purpose.AUDIT),
    *(
        Lane(purpose, slow)
        for purpose in (Purpose.CLIENT, Purpose.SERVER)
        for slow in (False, True)
    ),
)


@dataclass(frozen=True)
class LaneState:
    """How one lane does at one moment."""

    waiting: int
    # How long the token took for each piece of work.
    times: Histogram


@dataclass
class _State(Generic[_J]):
    turns: Turns[_J] = field(default_factory=Turns)
    # Token time that the lane has had, in seconds, on the queue's own clock.
    used: float = 0.0
    cost: float = 0.0
    times: Histogram = field(default_factory=lambda: Histogram(_OPERATION_S))


class FairQueue(Generic[_J]):
    """Start-time fair queueing: of the lanes that wait, the one that has had least goes first.

    So each of n busy lanes gets an n-th of the token's time, whatever the others ask for,
    and a single busy lane gets all of it. Within a lane the flows, which is who asks, take
    turns. Not thread-safe; `put` into a lane that is not full, `take` and `charge` are
    O(lanes), whoever waits.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        # Those that were ever used: each `take` looks at all of them.
        self._lanes: dict[Lane, _State[_J]] = {}
        self._now = 0.0

    def __len__(self) -> int:
        return sum(state.turns.waiting for state in self._lanes.values())

    def put(self, lane: Lane, job: _J, flow: object = None) -> _J | None:
        """Adds a job of `flow`; returns the one that had to leave a full lane for it.

        That is the newest of the flow with most in the lane, if this one has fewer: nobody
        keeps others out by filling a lane. Full lanes do not fill others.

        Raises:
            SignerBusy: the lane is full, and this flow has its part of it.
        """
        if (state := self._lanes.get(lane)) is None:
            state = self._lanes[lane] = _State()
        displaced = None
        if state.turns.waiting >= self._capacity:
            displaced = state.turns.displace(flow)
            if displaced is None:
                raise SignerBusy(
                    f"{self._capacity} operations are waiting for the token; ask again"
                )
        elif not state.turns.waiting:
            # Whoever was idle saved nothing up.
            state.used = max(state.used, self._now)
        state.turns.put(flow, job)
        return displaced

    def take(self) -> tuple[Lane, _J] | None:
        """The next job; `None` if nothing waits."""
        waiting = [entry for entry in self._lanes.items() if entry[1].turns.waiting]
        if not waiting:
            return None
        lane, state = min(waiting, key=lambda entry: entry[1].used)
        self._now = state.used
        # Charged in advance, so that several takers do not all take from one lane.
        state.used += state.cost
        return lane, state.turns.take()

    def charge(self, lane: Lane, seconds: float) -> None:
        """Corrects what was charged for one job of `lane` to what it took."""
        state = self._lanes[lane]
        state.used += seconds - state.cost
        state.cost += _NEWEST * (seconds - state.cost)
        state.times.observe(seconds)

    def refund(self, lane: Lane) -> None:
        """Takes back what was charged for a job that was not begun after all."""
        state = self._lanes[lane]
        state.used -= state.cost

    def expected(self, lane: Lane) -> float:
        """Seconds that a job of `lane` takes, by those before; 0 before the first."""
        return self._lanes[lane].cost

    def states(self) -> dict[Lane, LaneState]:
        """Of every lane there is."""
        states = {lane: self._lanes.get(lane, _State()) for lane in LANES}
        return {
            lane: LaneState(state.turns.waiting, state.times.copy())
            for lane, state in states.items()
        }

    def drop(self, unwanted: Callable[[_J], bool]) -> list[_J]:
        """Removes and returns the jobs for which `unwanted` holds."""
        dropped: list[_J] = []
        for state in self._lanes.values():
            dropped += state.turns.drop(unwanted)
        return dropped
