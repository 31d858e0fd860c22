"""Keeps the memory of this process, where the PIN is, to itself."""

from __future__ import annotations

import resource
from contextlib import suppress

from sidecar.hardening.process import has_capability
from sidecar.hardening.system_calls import mlockall, prctl

# linux/prctl.h
_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
# linux/mman.h: MCL_CURRENT, MCL_FUTURE and MCL_ONFAULT.
_ALL_ONCE_TOUCHED = 1 | 2 | 4
# linux/capability.h
_CAP_IPC_LOCK = 14


def protect_memory() -> None:
    """No core dumps of this process, and no debugger or reader of its memory but root's.

    Call it before a PIN is read. Children inherit the limit but not the rest, which ends
    with execve (prctl(2)).

    Raises:
        StartFailed: the kernel refused.
    """
    # A kernel.core_pattern with a pipe ignores the limit; what is not dumpable it leaves alone.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, 0)


def is_dumpable() -> bool:
    """Whether others may read this process's memory, or find it in a core dump."""
    return bool(prctl("PR_GET_DUMPABLE", _PR_GET_DUMPABLE))


def lock_memory() -> str | None:
    """Keeps what this process touches from here on, and has touched, out of the swap space.

    Best effort: returns why it did not, if it did not. Children are not locked (mlockall(2)).
    """
    if reason := why_not_locked():
        return reason
    try:
        mlockall(_ALL_ONCE_TOUCHED)
    except OSError as error:
        return f"mlockall: {error.strerror}"
    return None


def why_not_locked() -> str | None:
    """Why `lock_memory` would not do it; nothing if it would."""
    _, limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # What counts is the whole address space, used or not, and all that is asked for later: under
    # a limit the process would work until it reaches it, and then have no memory.
    if limit == resource.RLIM_INFINITY:
        _raise_lock_limit()
        return None
    if has_capability(_CAP_IPC_LOCK):
        return None
    return f"its limit is {limit // 1024} KiB: set LimitMEMLOCK=infinity, or ulimit -l unlimited"


def lift_lock_limit() -> None:
    """Lets `lock_memory` work after root's privileges are gone, where root may do that."""
    with suppress(ValueError, OSError):
        _raise_lock_limit()


def _raise_lock_limit() -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
