"""The one place where asyncio meets the token: a bounded crew of threads."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from sidecar.errors import SignerBusy, TokenUnavailable

_T = TypeVar("_T")
_Outcome = Any
_Work = Callable[[], _Outcome]
_Done = Callable[[_Outcome, BaseException | None], None]


class TokenExecutor:
    """Runs blocking work on `threads` threads and hands results to the event loop.

    Each thread keeps its own token session, which is why they live as long as the
    process. At most `backlog` pieces of work wait or run at once. Results that are ready
    together reach the loop in one wake-up: waking it costs more than a signature.
    """

    def __init__(self, threads: int, backlog: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._backlog = backlog
        self._pending = 0
        self._queue: SimpleQueue[tuple[_Work, _Done] | None] = SimpleQueue()
        self._finished: deque[tuple[_Done, _Outcome, BaseException | None]] = deque()
        self._notified = False
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"token-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: _Work, done: _Done) -> None:
        """Runs `work()` on a thread, then `done(result, error)` on the loop.

        Never blocks. Call it on the loop.

        Raises:
            SignerBusy: the backlog is full.
            TokenUnavailable: the executor was closed.
        """
        if self._closed:
            raise TokenUnavailable("the token is closed: this process is stopping")
        if self._pending >= self._backlog:
            raise SignerBusy(f"{self._backlog} token operations are waiting; ask again")
        self._pending += 1
        self._queue.put((work, done))

    async def run(self, work: Callable[[], _T]) -> _T:
        """Runs `work()` on a thread and waits for its result without blocking the loop."""
        future: asyncio.Future[_T] = self._loop.create_future()
        self.submit(work, lambda result, error: _settle(future, result, error))
        return await future

    def close(self) -> None:
        """Lets running work finish and ends the threads. Blocks until they have ended."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            work, done = job
            try:
                self._finished.append((done, work(), None))
            except Exception as error:  # noqa: BLE001  # whoever waits for it gets it
                self._finished.append((done, None, error))
            if not self._notified:
                self._notified = True
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Cleared first: a result that is appended from here on causes a new wake-up.
        self._notified = False
        while self._finished:
            done, result, error = self._finished.popleft()
            self._pending -= 1
            done(result, error)


def _settle(future: asyncio.Future[_T], result: _T, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
