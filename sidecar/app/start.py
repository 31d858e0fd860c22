"""What happens before the token is opened: the process is looked at."""

from __future__ import annotations

import os

import structlog

from sidecar.config.settings import Settings
from sidecar.hardening.memory import lock_memory
from sidecar.hardening.privileges import user_name

log = structlog.get_logger(__name__)


def prepare(settings: Settings) -> None:
    """Locks the memory, where that is possible, and says as whom it runs. Blocks."""
    user = os.geteuid()
    log.info("process", user=user_name(user), groups=sorted({os.getegid(), *os.getgroups()}))
    if user == 0 and settings.process.user is None:
        log.warning("running as root: set process.user to a user of the sidecar's own")
    if reason := lock_memory():
        log.info("memory is not locked, and may be swapped out", reason=reason)
