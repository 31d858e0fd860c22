"""Reads a file of roots."""

from __future__ import annotations

from pathlib import Path

from sidecar import whole_file
from sidecar.errors import CertificateRefused, TrustUnavailable

# A root is about 1 KiB; the largest public root programmes are a quarter of this.
MOST_BYTES = 1 << 20


def read_root_file(path: Path) -> bytes:
    """Everything in `path`, as `sidecar.whole_file.read` does. Blocks.

    Raises:
        TrustUnavailable: it is not there, may not be read, or is no regular file.
        CertificateRefused: it is larger than 1 MiB.
    """
    try:
        content = whole_file.read(path, MOST_BYTES)
    except OSError as error:
        raise TrustUnavailable(
            f"trust bundle {path}: {error.strerror}; put the trust domain's roots there, "
            "where this user may read them"
        ) from error
    if len(content) > MOST_BYTES:
        raise CertificateRefused(f"trust bundle {path} is larger than {MOST_BYTES} bytes")
    return content
