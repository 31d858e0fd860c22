"""The user PIN, read from a file that only its reader may open."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
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
    def read(cls, path: Path, closed_to: int = 0o077) -> Pin:
        """Reads the first line of `path`, none of whose mode bits is in `closed_to`.

        Raises:
            ConfigurationError: the file is missing, empty, not ours, or open to others.
        """
        with _opened(path, closed_to) as descriptor:
            content = os.read(descriptor, _LONGEST)
        return cls.first_line(content, f"PIN file {path}")

    @classmethod
    def first_line(cls, content: bytes, name: str) -> Pin:
        """The PIN in what was read from `name`.

        Raises:
            ConfigurationError: there is none, or it is no text.
        """
        try:
            pin = content.decode().partition("\n")[0].rstrip("\r")
        except UnicodeDecodeError:
            # Not the error itself: it shows the bytes.
            raise ConfigurationError(f"{name} is not UTF-8") from None
        if not pin:
            raise ConfigurationError(f"{name} is empty")
        return cls(pin)


def require_pin_file(path: Path, closed_to: int = 0o077) -> None:
    """Raises what `Pin.read` raises before it reads."""
    with _opened(path, closed_to):
        pass


@contextmanager
def _opened(path: Path, closed_to: int) -> Iterator[int]:
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise ConfigurationError(f"PIN file {path}: {error.strerror}") from error
    try:
        _check_mode(path, os.fstat(descriptor), closed_to)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_mode(path: Path, status: os.stat_result, closed_to: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"PIN file {path} is not a regular file")
    if status.st_uid not in {os.geteuid(), 0}:
        raise ConfigurationError(f"PIN file {path} belongs to another user; chown it")
    if status.st_mode & closed_to:
        raise ConfigurationError(f"PIN file {path} is open to others; chmod 0400 {path}")
