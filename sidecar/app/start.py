"""What happens before the token is opened: the process and its surroundings are looked at."""

from __future__ import annotations

import os
from collections.abc import Callable

import structlog

from sidecar.callers.admin_door import AdminDoor
from sidecar.config.settings import Settings
from sidecar.hardening.memory import lock_memory
from sidecar.hardening.privileges import user_name
from sidecar.separation.checks import Process, checks

log = structlog.get_logger(__name__)


def prepare(settings: Settings) -> None:
    """Locks the memory, and insists on callers that are kept apart. Blocks.

    Raises:
        ConfigurationError: a caller could put itself in the sidecar's place, or reach its secrets.
    """
    process = Process.current()
    log.info("process", user=user_name(process.uid), groups=sorted(process.groups))
    if process.uid == 0 and settings.process.user is None:
        log.warning("running as root: set process.user to a user of the sidecar's own")
    if reason := lock_memory():
        log.info("memory is not locked, and may be swapped out", reason=reason)
    if settings.signer and settings.signer.allow_own_user:
        log.warning("callers may be the sidecar's own user: for evaluation only")
    _require_apart(settings, process)


class KeptApart:
    """`Reloadable`: other callers are kept apart like those of the start.

    It takes no settings by itself: what callers are allowed is another's.
    """

    takes: frozenset[str] = frozenset()

    def __init__(self, door: AdminDoor) -> None:
        self._door = door

    def prepare(self, settings: Settings) -> Callable[[], None]:
        _require_apart(settings, Process.current())
        users = frozenset(rule.uid for rule in settings.callers)
        return lambda: self._door.replace(users)


def _require_apart(settings: Settings, process: Process) -> None:
    for _, check in checks(settings, process, os.environ):
        check()
