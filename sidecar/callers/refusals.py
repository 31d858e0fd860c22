"""Tells of callers that were refused. They themselves learn nothing of why."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from sidecar.core.journal import Journal
from sidecar.core.process import CallingProcess
from sidecar.rpc.quiet import Quiet

log = structlog.get_logger(__name__)


class Refusals:
    """In the log and the journal; at most one a second for each user."""

    def __init__(self, journal: Journal, clock: Callable[[], float]) -> None:
        self._journal = journal
        # Those who get as far as this share the socket's group: a closed set.
        self._quiet = Quiet(clock)

    def tell(self, process: CallingProcess, reason: str) -> None:
        """`reason` holds nothing that the caller has written."""
        if (suppressed := self._quiet.suppressed(process.uid)) is None:
            return
        facts = {
            "reason": reason,
            "uid": process.uid,
            "gid": process.gid,
            "pid": process.pid,
            "executable_sha256": process.executable,
            "suppressed": suppressed,
        }
        log.warning("caller refused", **facts)
        self._journal.record("caller refused", **facts)
