"""System calls that Python has no function for."""

from __future__ import annotations

import ctypes
import os

from sidecar.errors import StartFailed

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(name: str, option: int, value: int = 0) -> int:
    """With one argument; returns what it returned (prctl(2)).

    Raises:
        StartFailed: the kernel refused; the text has the `name` of the option.
    """
    result: int = _libc.prctl(option, value, 0, 0, 0)
    if result < 0:
        raise StartFailed(f"prctl({name}): {os.strerror(ctypes.get_errno())}")
    return result


def mlockall(flags: int) -> None:
    """Raises `OSError` (mlockall(2))."""
    if _libc.mlockall(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
