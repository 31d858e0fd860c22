"""The user PIN, read from a file that only its reader may open."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.errors import ConfigurationError

# Links are followed (a Kubernetes Secret is one): what they lead to is what is checked.
# Without O_NONBLOCK a pipe that has no writer would be waited for.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_LONGEST = 4096


@dataclass(frozen=True)
class Pin:
    """A PIN that shows in no repr and no log."""

    value: str = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Pin:
        """Reads the first line of `path`.

        Raises:
            ConfigurationError: the file is missing, empty, not ours, or open to others.
        """
        try:
            descriptor = os.open(path, _FLAGS)
        except OSError as error:
            raise ConfigurationError(f"PIN file {path}: {error.strerror}") from error
        try:
            _check_mode(path, os.fstat(descriptor))
            content = os.read(descriptor, _LONGEST)
        finally:
            os.close(descriptor)
        try:
            pin = content.decode().partition("\n")[0].rstrip("\r")
        except UnicodeDecodeError:
            # Not the error itself: it shows the bytes.
            raise ConfigurationError(f"PIN file {path} is not UTF-8") from None
        if not pin:
            raise ConfigurationError(f"PIN file {path} is empty")
        return cls(pin)


def _check_mode(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"PIN file {path} is not a regular file")
    if status.st_uid not in {os.geteuid(), 0}:
        raise ConfigurationError(f"PIN file {path} belongs to another user; chown it")
    if status.st_mode & 0o077:
        raise ConfigurationError(f"PIN file {path} is open to others; chmod 0400 {path}")
