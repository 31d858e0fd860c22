"""Tells of callers that were refused. They themselves learn nothing of why."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from sidecar.core.journal import Journal
from sidecar.core.process import CallingProcess
from sidecar.rpc.quiet import Quiet

log = structlog.get_logger(__name__)

# Users that are told apart. In a container that may change its user a process is whoever it likes,
# and keeps the socket's group: all others count as one.
_MOST_USERS = 64
_OTHERS = "others"


class Refusals:
    """In the log and the journal; at most one a second for each user, as far as they are known."""

    def __init__(self, journal: Journal, clock: Callable[[], float]) -> None:
        self._journal = journal
        self._quiet = Quiet(clock)
        self._users: set[int | None] = set()

    def tell(self, process: CallingProcess, reason: str) -> None:
        """`reason` holds nothing that the caller has written."""
        if (suppressed := self._quiet.suppressed(self._kind(process.uid))) is None:
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

    def _kind(self, uid: int | None) -> object:
        if uid not in self._users and len(self._users) >= _MOST_USERS:
            return _OTHERS
        self._users.add(uid)
        return uid
