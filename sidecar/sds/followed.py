"""The names that one stream asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from sidecar.callers.serving import LOOK
from sidecar.errors import DiscoveryBusy, DiscoveryRefused
from sidecar.sds.names import MAX_NAME_BYTES
from sidecar.sds.secret_source import SecretSource
from sidecar.sds.watched import Watched

MAX_NAMES = 64
# On all streams together: a change is told to each of them, and signatures wait meanwhile.
MAX_FOLLOWED = 2048


class Followed:
    """Follows each name in a task of its own; `news` is set when there is something to do."""

    def __init__(self, source: SecretSource) -> None:
        self.source = source
        self.news = asyncio.Event()
        self._watched: dict[str, Watched] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failure: BaseException | None = None
        self._guard: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[Watched]:
        """In the order in which they were asked for.

        Raises what went wrong in a task: its stream would wait for ever.
        """
        if self._failure:
            raise self._failure
        return iter(tuple(self._watched.values()))

    def named(self, name: str) -> Watched | None:
        return self._watched.get(name)

    def add(self, name: str) -> Watched:
        """Follows `name` from now on, if it is not followed yet.

        Raises:
            UnknownSecret: nothing of ours has that name.
            DiscoveryRefused: one name too many.
            DiscoveryBusy: too many on all streams together.
        """
        if watched := self._watched.get(name):
            return watched
        self.source.require_known(name)
        if len(self._watched) >= MAX_NAMES:
            raise DiscoveryRefused(f"a stream may follow at most {MAX_NAMES} secrets")
        if self.source.counts.followed >= MAX_FOLLOWED:
            raise DiscoveryBusy(f"{MAX_FOLLOWED} secrets are followed already; try again later")
        self.source.counts.followed += 1
        watched = self._watched[name] = Watched(name)
        task = asyncio.create_task(self.source.follow(watched, self.news.set))
        task.add_done_callback(self._ended)
        self._tasks[name] = task
        if self._guard is None:
            self._guard = asyncio.create_task(self._look_at_permissions())
            self._guard.add_done_callback(self._ended)
        return watched

    def drop(self, name: str) -> None:
        """Does not follow `name` any more, if it did."""
        if self._watched.pop(name, None):
            self._tasks.pop(name).cancel()
            self.source.counts.followed -= 1

    def close(self) -> None:
        for name in tuple(self._watched):
            self.drop(name)
        if self._guard:
            self._guard.cancel()

    async def _look_at_permissions(self) -> None:
        """Raises `UnknownSecret` when the caller may not follow one of them any more."""
        while True:
            await asyncio.sleep(LOOK.total_seconds())
            for name in tuple(self._watched):
                self.source.require_known(name)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()):
            self._failure = failure
            self.news.set()


def checked(names: Iterable[str]) -> list[str]:
    """Each name once, in order.

    Raises:
        DiscoveryRefused: too many of them, or one that is too long.
    """
    each = list(dict.fromkeys(names))
    if len(each) > MAX_NAMES:
        raise DiscoveryRefused(f"{len(each)} secrets at once; at most {MAX_NAMES} may be asked for")
    if any(len(name.encode()) > MAX_NAME_BYTES for name in each):
        raise DiscoveryRefused(f"a secret's name has at most {MAX_NAME_BYTES} bytes")
    return each
