"""Keeps the memory of this process, where the PIN is, to itself."""

from __future__ import annotations

import ctypes
import os
import resource

from sidecar.errors import StartFailed

# linux/prctl.h
_PR_SET_DUMPABLE = 4


def protect_memory() -> None:
    """No core dumps of this process, and no debugger or reader of its memory but root's.

    Call it before a PIN is read. Children inherit the limit but not the rest, which ends
    with execve (prctl(2)).

    Raises:
        StartFailed: the kernel refused.
    """
    # A kernel.core_pattern with a pipe ignores the limit; what is not dumpable it leaves alone.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise StartFailed(f"prctl(PR_SET_DUMPABLE): {os.strerror(ctypes.get_errno())}")
