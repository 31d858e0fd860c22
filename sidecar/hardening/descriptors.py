"""The descriptors that this process was started with."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def close_inherited() -> None:
    """Closes everything but standard input, output and error.

    Call it first: a descriptor that whoever started us left open might lead into a directory,
    or to a peer, that we know nothing of. Ours are closed by execve(2) (PEP 446).
    """
    # The descriptor of the listing itself is gone when the first one is closed.
    for entry in list(Path("/proc/self/fd").iterdir()):
        if (descriptor := int(entry.name)) > 2:
            with suppress(OSError):
                os.close(descriptor)
