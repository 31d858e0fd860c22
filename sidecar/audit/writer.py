"""The one writer: a thread that turns entries into chained lines, a write(2) for each batch."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import structlog

from sidecar.audit.chain import OPENED
from sidecar.audit.files import LogDirectory, append_line, write_all
from sidecar.audit.record import Link, facts_of, line, spelled
from sidecar.core.journal import Fact
from sidecar.errors import AuditUnavailable

log = structlog.get_logger(__name__)

# The record of a time without records: so many entries could not be written.
INTERRUPTED = "log interrupted"
STDOUT = "stdout"
# Between two tries to write while nothing can be written.
_AGAIN_S = 1.0

# A thread that is woken costs more than a record. While so many come at once, the writer lets
# more of them come before it writes; a single one never waits.
_BUSY = 8
_LINGER_S = 0.001

Done = Callable[[AuditUnavailable | None], None]


@dataclass(slots=True, eq=False)
class Entry:
    """What becomes a record."""

    event: str
    # As `record.facts_of` spells them.
    facts: str
    # Called on the loop when it was written, or with why it was not.
    done: Done
    # Whether all up to here is to be durable, and this line is to go to the anchor.
    seals: bool = False
    # Once written.
    link: Link | None = None


@dataclass(frozen=True)
class Rotation:
    """When a new file is begun."""

    size: int
    age_s: float


class Receiver(Protocol):
    """Whoever hears of what was written, in the writer's thread."""

    def written(
        self, batch: Sequence[Entry], link: Link, error: AuditUnavailable | None
    ) -> None: ...

    def not_durable(self, error: OSError) -> None: ...


class Writer:
    """Owns the chain and the file. `put` never blocks; everything else is the thread's."""

    def __init__(
        self,
        directory: LogDirectory,
        link: Link,
        torn: Sequence[Fact],
        rotation: Rotation,
        anchor: str | None,
        receiver: Receiver,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[int, bytes], None] = write_all,
    ) -> None:
        self._directory = directory
        self._link = link
        # Cut-off lines of an earlier process, of which the first record speaks.
        self._torn = torn
        self._rotation = rotation
        self._anchor = anchor
        self._receiver = receiver
        self._now = now
        self._clock = clock
        self._write = write
        self._file: int | None = None
        self._size = 0
        self._opened = 0.0
        # The file ends in something that is no line, and could not be cut back.
        self._broken = False
        # Entries that were not written since the last one that was.
        self._lost = 0
        self._failing = False
        self._queue: list[Entry] = []
        self._closed = False
        self._busy = False
        self._work_came = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="audit-writer", daemon=True)
        # Apart, because records are written while the ones before become durable.
        self._durable = ThreadPoolExecutor(1, "audit-sync")

    def start(self) -> None:
        """From here on entries are written; the first begins a file."""
        self._thread.start()

    def put(self, entries: Sequence[Entry]) -> None:
        """Entries to be written, in this order."""
        with self._work_came:
            self._queue += entries
            self._work_came.notify()

    def close(self) -> None:
        """Writes what waits, makes it durable and ends the thread. Blocks."""
        with self._work_came:
            self._closed = True
            self._work_came.notify()
        if self._thread.ident is not None:
            self._thread.join()
        if self._file is not None:
            self._durable.submit(self._sync, self._file)
        self._durable.shutdown()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            try:
                self._write_batch(batch)
            except Exception as error:
                # A bug of ours must not look like a log that is written.
                log.exception("audit writer failed")
                self._fail(batch, type(error).__name__)

    def _next(self) -> list[Entry] | None:
        """Waits for entries, or a while; `None` once closed."""
        with self._work_came:
            if not self._queue and not self._closed:
                self._work_came.wait(_AGAIN_S if self._failing else None)
        if self._busy:
            time.sleep(_LINGER_S)
        with self._work_came:
            batch, self._queue = self._queue, []
            self._busy = len(batch) >= _BUSY
            return None if self._closed and not batch else batch

    def _write_batch(self, batch: list[Entry]) -> None:
        try:
            self._rotate_if_due()
            self._append(batch)
        except OSError as error:
            self._fail(batch, error.strerror or type(error).__name__)
        else:
            self._receiver.written(batch, self._link, None)

    def _append(self, batch: Sequence[Entry]) -> None:
        """Raises `OSError` with nothing of it in the file."""
        lost = self._lost
        if self._failing:
            batch = [Entry(INTERRUPTED, facts_of({"lost": lost}), _nobody), *batch]
        time_, link, lines = spelled(self._now()), self._link, []
        for entry in batch:
            raw, link = line(link, time_, entry.event, entry.facts)
            entry.link = link
            lines.append(raw)
        if lines:
            self._write_whole(b"\n".join(lines) + b"\n")
        self._link, self._lost, self._failing = link, 0, False
        for entry, raw in zip(batch, lines, strict=True):
            if entry.seals:
                assert self._file is not None
                self._durable.submit(self._sync, os.dup(self._file), raw)

    def _write_whole(self, content: bytes) -> None:
        if self._broken or self._file is None:
            raise OSError(0, "the file is damaged, and a restart begins another one")
        try:
            self._write(self._file, content)
        except OSError:
            self._cut_back()
            raise
        self._size += len(content)

    def _cut_back(self) -> None:
        """Takes away the part of a batch that went to the disk: nobody was told of it."""
        assert self._file is not None
        try:
            os.ftruncate(self._file, self._size)
        except OSError as error:
            self._broken = True
            log.critical("audit log damaged, restart the process", error=error.strerror)

    def _fail(self, batch: Sequence[Entry], reason: str) -> None:
        self._failing = True
        self._lost += len(batch)
        error = AuditUnavailable(f"the audit log cannot be written: {reason}")
        self._receiver.written(batch, self._link, error)

    def _rotate_if_due(self) -> None:
        before = self._file
        if before is not None:
            old = self._clock() - self._opened >= self._rotation.age_s
            if self._broken or not (old or self._size >= self._rotation.size):
                return
        self._begin_file()
        if before is not None:
            self._durable.submit(self._sync, before)

    def _begin_file(self) -> None:
        facts = facts_of({"format": 1, "previous": self._link.chain.hex(), "torn": self._torn})
        raw, link = line(self._link, spelled(self._now()), OPENED, facts)
        self._file = self._directory.create(link.seq, raw + b"\n", self._write)
        self._size, self._link, self._torn = len(raw) + 1, link, []
        self._opened = self._clock()

    def _sync(self, descriptor: int, anchored: bytes | None = None) -> None:
        try:
            os.fsync(descriptor)
            if anchored is not None:
                self._write_anchor(anchored)
        except OSError as error:
            self._receiver.not_durable(error)
        finally:
            os.close(descriptor)

    def _write_anchor(self, raw: bytes) -> None:
        if self._anchor == STDOUT:
            write_all(1, raw + b"\n")
        elif self._anchor is not None:
            append_line(Path(self._anchor), raw)


def _nobody(_error: AuditUnavailable | None) -> None:
    """Nobody waits for it."""
