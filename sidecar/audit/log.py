"""The audit log as the event loop sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache

import structlog

from sidecar.audit.base import Asked, Done
from sidecar.audit.record import Link, caller_facts, facts_of, signature_facts
from sidecar.audit.seal import SEAL
from sidecar.audit.writer import Entry, Writer
from sidecar.core.journal import Fact
from sidecar.errors import AuditUnavailable, SignerBusy
from sidecar.telemetry import AuditCounts

log = structlog.get_logger(__name__)

# Records that wait to be written; there is about one for each signature in flight.
_BACKLOG = 8192
# Each request to sign that was answered with a signature or a refusal.
SIGNATURE = "signature"
_caller_facts = lru_cache(1024)(caller_facts)


class AuditLog:
    """`Journal` and `SignatureAudit`. Use it from the event loop; it never blocks.

    What happens within one turn of the loop is written together. When nothing can be written,
    signing goes on and is counted, or, if `strict`, ends until the log can be written again.
    """

    def __init__(self, *, strict: bool, counts: AuditCounts, link: Link) -> None:
        self.counts = counts
        # The end of what was written.
        self.link = link
        # Set by each batch that was written and reaches record `wake_at`.
        self.news = asyncio.Event()
        self.wake_at = 0
        self._drained = asyncio.Event()
        self._strict = strict
        self._loop = asyncio.get_running_loop()
        self._writer: Writer | None = None
        self._fresh: list[Entry] = []
        self._waiting = 0
        self._error: AuditUnavailable | None = None

    def begin(self, writer: Writer) -> None:
        """From here on `writer` writes."""
        self._writer = writer

    def record(self, event: str, **facts: Fact) -> None:
        """`Journal`: nobody waits until it is written."""
        self._put(Entry(event, facts_of(facts), _nobody))

    def require_room(self) -> None:
        """`SignatureAudit`."""
        if self._strict and self._error:
            raise self._error
        if self._waiting >= _BACKLOG:
            raise SignerBusy(f"{_BACKLOG} records wait for the audit log; ask again")

    def request(self, asked: Asked, result: str, done: Done) -> None:
        """`SignatureAudit`."""
        facts = signature_facts(
            _caller_facts(asked.process),
            asked.key_id,
            asked.purpose,
            asked.scheme,
            asked.message,
            result,
        )
        self._put(Entry(SIGNATURE, facts, done))

    def seal(self, facts: dict[str, str | int], done: Callable[[Link | None], None]) -> None:
        """Records a seal and makes all up to it durable soon.

        Calls `done` with its place in the chain, or with `None` if it was not written.
        """
        entry = Entry(SEAL, facts_of(facts), _nobody, seals=True)
        entry.done = lambda _: done(entry.link if self._error is None else None)
        self._put(entry)

    async def flush(self) -> None:
        """Returns when everything so far was written, or could not be."""
        while self._waiting:
            self._drained.clear()
            await self._drained.wait()

    # What the writer calls, in its thread.

    def written(self, batch: Sequence[Entry], link: Link, error: AuditUnavailable | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, batch, link, error)

    def not_durable(self, error: OSError) -> None:
        self.counts.not_durable += 1
        log.critical("audit log not durable, or not anchored", error=error.strerror)

    def _put(self, entry: Entry) -> None:
        if not self._fresh:
            self._loop.call_soon(self._hand_over)
        self._fresh.append(entry)
        self._waiting += 1

    def _hand_over(self) -> None:
        entries, self._fresh = self._fresh, []
        assert self._writer
        self._writer.put(entries)

    def _deliver(self, batch: Sequence[Entry], link: Link, error: AuditUnavailable | None) -> None:
        self._waiting -= len(batch)
        self.link = link
        self._judge(len(batch), error)
        # Without records, and only where that is wanted, answers go out all the same.
        told = error if self._strict else None
        for entry in batch:
            entry.done(told)
        if self.link.seq >= self.wake_at:
            self.news.set()
        if not self._waiting:
            self._drained.set()

    def _judge(self, entries: int, error: AuditUnavailable | None) -> None:
        before, self._error = self._error, error
        if error is None:
            self.counts.written += entries
            if before:
                log.warning("audit log written again", lost=self.counts.lost)
            return
        self.counts.lost += entries
        if before is None:
            log.critical(
                "audit log not written",
                error=str(error),
                signing="refused" if self._strict else "goes on without records",
            )


def _nobody(_error: AuditUnavailable | None) -> None:
    """Nobody waits for it."""
