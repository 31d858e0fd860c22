"""Directories in a volume that everybody may write: ours, or not taken."""

from __future__ import annotations

import os
from pathlib import Path

from sidecar.errors import ConfigurationError


def make_own(directory: Path, mode: int) -> None:
    """Makes `directory`, or takes up the one of an earlier run. Blocks.

    It is this user's, its group is the process's own whatever the volume hands down, and it has
    exactly `mode`.

    Raises:
        ConfigurationError: its volume is not there or not to be written, or somebody else has
            put something in its place.
    """
    volume = directory.parent
    if not volume.is_dir():
        raise ConfigurationError(f"{volume} is no directory: mount the volume there, as a whole")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(
            f"{directory}: {error.strerror}; the volume must be a fresh emptyDir"
        ) from error
    try:
        _settle(descriptor, directory, mode)
    finally:
        os.close(descriptor)


def _settle(descriptor: int, directory: Path, mode: int) -> None:
    # Of what was opened, not of what has that name by now.
    if os.fstat(descriptor).st_uid != os.geteuid():
        raise ConfigurationError(
            f"{directory} belongs to user {os.fstat(descriptor).st_uid}, not to user "
            f"{os.geteuid()}: the volume must be a fresh emptyDir"
        )
    # A volume with fsGroup hands down its group, and its setgid bit.
    os.fchown(descriptor, -1, os.getegid())
    os.fchmod(descriptor, mode)
