"""The one place where asyncio meets the token: a bounded crew of threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from sidecar.core.process import UNKNOWN, CallingProcess
from sidecar.core.token_bucket import TokenBucket
from sidecar.errors import LoginRefused, SignerBusy, TokenError, TokenUnavailable
from sidecar.token.base import KeyId
from sidecar.token.lanes import FairQueue, Lane, LaneState, Purpose
from sidecar.token.outages import Outages

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
_Outcome = Any
_Done = Callable[[_Outcome, BaseException | None], None]

UPKEEP = Lane(Purpose.UPKEEP)
# Making an RSA key takes a TPM a minute and more.
UPKEEP_LIMIT_S = 180.0
# Waking the event loop costs more than a fast signature, so results of fast work travel
# together: as many as this, or all when nothing waits.
_TOGETHER = 16
_FAST_S = 0.0005
_TICK_S = 0.25
_CLOSE_S = 2.0


class Caller:
    """Whoever waits for results. Once `gone`, what still waits for him is not begun.

    Callers with one `bucket` are one: they share its rate, and take one turn together.
    """

    gone = False

    def __init__(
        self, process: CallingProcess = UNKNOWN, bucket: TokenBucket | None = None
    ) -> None:
        self.process = process
        self.bucket = bucket or TokenBucket()


_NOBODY = Caller()


@dataclass(eq=False)
class _Job:
    work: Callable[[], _Outcome]
    done: _Done
    caller: Caller
    deadline: float
    patience: float
    limit: float
    lane: Lane
    key_id: KeyId | None
    began: float = 0.0
    answered: bool = False
    outcome: _Outcome = None
    error: BaseException | None = None


class TokenExecutor:
    """Runs blocking work on `threads` threads and hands results to the event loop.

    Each thread keeps its own token session, which is why they live as long as the
    process. Lanes share the threads fairly, and callers share their lane; at most `backlog`
    pieces of work wait in each.
    A piece that the module does not return from within its limit is answered with
    `TokenUnavailable`; so is all new work while no thread is left.
    """

    def __init__(self, threads: int, backlog: int) -> None:
        # Whether the token answered when it was last asked; before that: it was just opened.
        self.reachable = True
        self._outages = Outages()
        self._loop = asyncio.get_running_loop()
        self._waiting: FairQueue[_Job] = FairQueue(backlog)
        # Taken twice for each piece of work, so without Condition's own layer of Python.
        self._lock = threading.Lock()
        self._work_came = threading.Condition(self._lock)
        self._idle = 0
        self._running: dict[int, _Job] = {}
        self._finished: deque[_Job] = deque()
        self._notified = False
        self._closed = False
        self._all_hung = False
        self._pending = 0
        self._watch: asyncio.TimerHandle | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(n,), name=f"token-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pending(self) -> int:
        """Pieces of work that wait or run and are not answered."""
        return self._pending

    @property
    def hung(self) -> int:
        """Threads that the module has not returned from within the limit of their work."""
        with self._lock:
            return sum(job.answered for job in self._running.values())

    def lanes(self) -> Mapping[Lane, LaneState]:
        """How every lane does now."""
        with self._lock:
            return self._waiting.states()

    def submit(
        self,
        lane: Lane,
        work: Callable[[], _Outcome],
        done: _Done,
        *,
        limit: float,
        patience: float | None = None,
        caller: Caller = _NOBODY,
        key_id: KeyId | None = None,
    ) -> None:
        """Runs `work()` on a thread, then `done(result, error)` on the loop.

        Never blocks. Call it on the loop. `limit` is in seconds: what has waited longer is
        not begun, and what runs longer is given up; both get an error. Whoever asks may have
        less `patience`: then his work is not begun after that, but once it runs, it runs. His
        haste must not make a token that answers look like one that hangs. What names a key that
        the token was not there for lately is not even queued, see `Outages`.

        Raises:
            SignerBusy: the lane's backlog is full, and this caller has its part of it.
            TokenUnavailable: the executor was closed, or every thread hangs in the module, or
                the key is left alone for a moment.
        """
        if self._closed:
            raise TokenUnavailable("the token is closed: this process is stopping")
        if self._all_hung and self.hung == len(self._threads):
            raise TokenUnavailable("the token's module does not return from a call; see the log")
        probes = key_id and self._outages.failing and self._outages.probes(key_id)
        patience = limit if patience is None else min(limit, patience)
        deadline = time.monotonic() + patience
        job = _Job(work, done, caller, deadline, patience, limit, lane, key_id)
        with self._lock:
            displaced = self._waiting.put(lane, job, caller.bucket)
            if self._idle:
                self._work_came.notify()
        self._pending += 1
        if key_id and probes:
            self._outages.let_through(key_id, job)
        if displaced:
            # With the next turn of the loop: it is another's, who may ask again from there.
            displaced.error = SignerBusy("others, who had fewer waiting, came; ask again")
            self._finished.append(displaced)
            self._notify()
        if self._watch is None:
            self._watch = self._loop.call_later(_TICK_S, self._look)

    async def run(
        self, work: Callable[[], _T], limit: float = UPKEEP_LIMIT_S, lane: Lane = UPKEEP
    ) -> _T:
        """Runs upkeep on a thread and waits for its result without blocking the loop."""
        future: asyncio.Future[_T] = self._loop.create_future()
        self.submit(lane, work, lambda result, error: _settle(future, result, error), limit=limit)
        return await future

    def close(self) -> None:
        """Lets running work finish and ends the threads. Blocks, two seconds at most."""
        self._closed = True
        if self._watch:
            self._watch.cancel()
        with self._lock:
            self._work_came.notify_all()
        deadline = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.error("the token's module does not return; leaving without it")

    def _run(self, number: int) -> None:
        done = None
        while job := self._next(number, done):
            try:
                job.outcome = job.work()
            except Exception as error:  # noqa: BLE001  # whoever waits for it gets it
                job.error = error
            done = job

    def _next(self, number: int, done: _Job | None) -> _Job | None:
        """Waits for the next job after `done`; `None` once the executor is closed."""
        now = time.monotonic()
        if done:
            self._finished.append(done)
        while True:
            with self._lock:
                if done:
                    del self._running[number]
                    self._waiting.charge(done.lane, now - done.began)
                    done = None
                job, at_once = self._take(number, now)
            # Not with the lock: it gives the interpreter's lock away, and the loop needs both.
            if at_once or len(self._finished) >= _TOGETHER:
                self._notify()
            if job:
                return job
            with self._lock:
                if not self._waiting:
                    if self._closed:
                        return None
                    self._idle += 1
                    self._work_came.wait()
                    self._idle -= 1
            now = time.monotonic()

    def _take(self, number: int, now: float) -> tuple[_Job | None, bool]:
        """A job to begin, and whether what is finished should not wait for its end."""
        while taken := self._waiting.take():
            lane, job = taken
            job.began = now
            if not job.caller.gone and now <= job.deadline:
                self._running[number] = job
                return job, not 0.0 < self._waiting.expected(lane) < _FAST_S
            self._waiting.refund(lane)
            job.error = _too_late(job)
            self._finished.append(job)
        return None, True

    def _notify(self) -> None:
        # A closed loop: a call that hung has returned after everyone left.
        if self._finished and not self._notified and not self._loop.is_closed():
            self._notified = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Cleared first: a result that is appended from here on causes a new wake-up.
        self._notified = False
        while self._finished:
            job = self._finished.popleft()
            self._answer(job, job.outcome, job.error)

    def _answer(self, job: _Job, outcome: _Outcome, error: BaseException | None) -> None:
        if job.answered:
            return
        job.answered = True
        self._pending -= 1
        if job.key_id and (error or self._outages.failing):
            self._outages.answered(job.key_id, job, error)
        if error is None:
            self.reachable = True
        elif isinstance(error, TokenError):
            # Every other answer is one, too.
            self.reachable = not isinstance(error, TokenUnavailable | LoginRefused)
        job.done(outcome, error)

    def _look(self) -> None:
        """The watchdog: answers for what hangs and for what waits behind it."""
        self._deliver()
        now = time.monotonic()
        with self._lock:
            late = self._waiting.drop(lambda job: job.caller.gone or now > job.deadline)
            running = list(self._running.values())
        for job in late:
            self._answer(job, None, _too_late(job))
        for job in running:
            if not job.answered and now - job.began > job.limit:
                log.error("the token's module does not return", for_s=round(now - job.began, 1))
                hung = TokenUnavailable(f"the token's module did not return within {job.limit:g} s")
                self._answer(job, None, hung)
        self._all_hung = self.hung == len(self._threads)
        again = self._pending or self._all_hung
        self._watch = self._loop.call_later(_TICK_S, self._look) if again else None


def _too_late(job: _Job) -> SignerBusy:
    return SignerBusy(f"waited {job.patience:g} s for the token; ask again")


def _settle(future: asyncio.Future[_T], result: _T, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
