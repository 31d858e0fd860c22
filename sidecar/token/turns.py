"""Within one lane: callers take turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_J = TypeVar("_J")


class Turns(Generic[_J]):
    """The jobs of several flows: one of each in turn, and those of one flow in order.

    So a flow that waits is served after at most one job of each other flow, however much
    these have waiting. A flow is known by any object that can be hashed. Not thread-safe;
    `put` and `take` cost the same however many wait, the rest is O(flows) or O(jobs).
    """

    def __init__(self) -> None:
        # Of those that have something waiting, and no others.
        self._queues: dict[object, deque[_J]] = {}
        self._next: deque[object] = deque()
        # How many jobs there are. Read only.
        self.waiting = 0

    def put(self, flow: object, job: _J) -> None:
        """Adds a job; a flow that had none waiting is the last one whose turn it is."""
        if (queue := self._queues.get(flow)) is None:
            queue = self._queues[flow] = deque()
            self._next.append(flow)
        queue.append(job)
        self.waiting += 1

    def take(self) -> _J:
        """The next job. Something must wait."""
        flow = self._next[0]
        queue = self._queues[flow]
        job = queue.popleft()
        if queue:
            self._next.rotate(-1)
        else:
            self._next.popleft()
            del self._queues[flow]
        self.waiting -= 1
        return job

    def displace(self, flow: object) -> _J | None:
        """Removes the newest job of whoever has most waiting, so that `flow` may have one.

        `None` where `flow` would have more than that one then: nobody is to give way.
        Something must wait.
        """
        longest = max(self._queues.values(), key=len)
        if len(longest) < len(self._queues.get(flow, ())) + 2:
            return None
        self.waiting -= 1
        return longest.pop()

    def drop(self, unwanted: Callable[[_J], bool]) -> list[_J]:
        """Removes and returns the jobs for which `unwanted` holds; the rest keep their places."""
        dropped: list[_J] = []
        for flow, queue in list(self._queues.items()):
            kept: deque[_J] = deque()
            for job in queue:
                (dropped if unwanted(job) else kept).append(job)
            if kept:
                self._queues[flow] = kept
            else:
                del self._queues[flow]
        self._next = deque(flow for flow in self._next if flow in self._queues)
        self.waiting -= len(dropped)
        return dropped
