"""Directories that a start makes where they are missing."""

from __future__ import annotations

import os
from pathlib import Path

from sidecar.errors import ConfigurationError


def require_there_or_makeable(directory: Path, mode: int) -> str | None:
    """How it will come to be; nothing if it is there already. Makes nothing.

    Raises:
        ConfigurationError: a start could not make it.
    """
    if os.path.lexists(directory):
        return None
    if not directory.parent.is_dir():
        raise ConfigurationError(f"{directory.parent} is no directory; create it first")
    if not os.access(directory.parent, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"{directory} is not there, and this user cannot make it; make it as root: "
            f"install -d -o {os.geteuid()} -m {mode:04o} {directory}"
        )
    return f"{directory}: made at the start"
