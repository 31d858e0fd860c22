"""Directories that hold what only we may write."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sidecar.errors import ConfigurationError


def require_private(directory: Path, what: str) -> None:
    """Makes `directory` if it is not there. Blocks.

    Raises:
        ConfigurationError: it cannot be made, is not ours, or is open to others; it begins
            with `what` the directory is.
    """
    if require_ours(directory, what, 0o700) & 0o077:
        raise ConfigurationError(f"{what} {directory} is open to others; chmod 0700 {directory}")


def require_ours(directory: Path, what: str, mode: int) -> int:
    """Makes `directory` with `mode` if it is not there; returns the mode that it has. Blocks.

    Raises:
        ConfigurationError: it cannot be made, or is not ours; it begins with `what` it is.
    """
    try:
        directory.mkdir(mode=mode, exist_ok=True)
        status = directory.lstat()
    except OSError as error:
        raise ConfigurationError(
            f"{what} {directory}: {error.strerror}; make it as root: "
            f"install -d -o {os.geteuid()} -m {mode:04o} {directory}"
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(f"{what} {directory} is no directory of its own")
    if status.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{what} {directory} belongs to another user; chown it to user {os.geteuid()}"
        )
    return stat.S_IMODE(status.st_mode)
