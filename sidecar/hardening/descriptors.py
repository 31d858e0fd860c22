"""The descriptors that this process was started with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_OURS = Path("/proc/self/fd")
_STANDARD = 2


def close_inherited() -> None:
    """Closes everything but standard input, output and error.

    Call it first: a descriptor that whoever started us left open might lead into a directory,
    or to a peer, that we know nothing of. Ours are closed by execve(2) (PEP 446).
    """
    # The descriptor of the listing itself is gone when the first one is closed.
    for entry in list(_OURS.iterdir()):
        if (descriptor := int(entry.name)) > _STANDARD:
            with suppress(OSError):
                os.close(descriptor)


def inherited() -> Mapping[int, str]:
    """Those that `close_inherited` would close, and what they lead to."""
    found = {}
    for entry in list(_OURS.iterdir()):
        descriptor = int(entry.name)
        with suppress(OSError):
            # One of our own would be closed by execve(2): it was not there before.
            if descriptor > _STANDARD and os.get_inheritable(descriptor):
                found[descriptor] = str(entry.readlink())
    return found
