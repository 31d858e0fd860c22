"""Reads a small file as it was at one moment."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sidecar.errors import CertificateRefused, TrustUnavailable

# A root is about 1 KiB; the largest public root programmes are a quarter of this.
MOST_BYTES = 1 << 20


def read_whole(path: Path) -> bytes:
    """Everything in `path`, from one opening of it. Blocks.

    A file that is replaced by a rename, or by the symlink swap of a ConfigMap mount, is read
    as it was before or as it is after, never half of each.

    Raises:
        TrustUnavailable: it is not there, may not be read, or is no regular file.
        CertificateRefused: it is larger than 1 MiB.
    """
    try:
        # Without O_NONBLOCK a FIFO would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123  # it is open already
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise TrustUnavailable(f"trust bundle {path} is no regular file; name the file")
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise TrustUnavailable(
            f"trust bundle {path}: {error.strerror}; put the trust domain's roots there, "
            "where this user may read them"
        ) from error
    if len(content) > MOST_BYTES:
        raise CertificateRefused(f"trust bundle {path} is larger than {MOST_BYTES} bytes")
    return content
