"""The files of an audit log: their names, their order, and the directory they are in."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from sidecar.errors import ConfigurationError
from sidecar.private_directory import require_ours

# audit-<first seq>.jsonl; a start that found a file of that name makes audit-<first seq>.1.jsonl.
_NAME = re.compile(r"audit-(\d{12,18})(?:\.(\d{1,6}))?\.jsonl")
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Line:
    """A line of a file, without its newline."""

    raw: bytes
    number: int
    # Whether its newline is there.
    ended: bool


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a file. Raises `OSError`."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            yield Line(raw.removesuffix(b"\n"), number, raw.endswith(b"\n"))


def files_in(directory: Path) -> Sequence[Path]:
    """The log's files, oldest first. Raises `OSError`."""
    found = [(match, path) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, key=lambda e: (int(e[0][1]), int(e[0][2] or 0)))]


def require_log_directory(path: Path) -> int:
    """Makes `path` if it is not there; returns the mode that it has. Blocks.

    Raises:
        ConfigurationError: it cannot be made, is not ours, or others can write it.
    """
    mode = require_ours(path, "audit.directory", 0o750)
    if mode & 0o022:
        raise ConfigurationError(
            f"audit.directory {path} can be written by others; chmod 0750 {path}"
        )
    return mode


class LogDirectory:
    """The directory of one log, locked for this process. Every method blocks."""

    def __init__(self, path: Path) -> None:
        """Makes `path` if it is not there.

        Raises:
            ConfigurationError: others can write it, or another process does.
        """
        self.path = path
        require_log_directory(path)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise ConfigurationError(
                f"audit.directory {path}: another process writes there; give each its own"
            ) from None

    def create(self, first_seq: int, content: bytes, write: Callable[[int, bytes], None]) -> int:
        """A new file with `content`, open for appending; its name is durable.

        Raises:
            OSError: there is no such file.
        """
        name, made = self._new(first_seq)
        try:
            # Whom the directory lets in may read: whoever collects the files, for one.
            os.fchmod(made, 0o640)
            write(made, content)
            os.fsync(self._descriptor)
        except OSError:
            os.close(made)
            os.unlink(name, dir_fd=self._descriptor)
            raise
        return made

    def close(self) -> None:
        """Lets another process have it."""
        os.close(self._descriptor)

    def _new(self, first_seq: int) -> tuple[str, int]:
        for attempt in count():
            suffix = f".{attempt}" if attempt else ""
            name = f"audit-{first_seq:012d}{suffix}.jsonl"
            with suppress(FileExistsError):
                return name, os.open(name, _FLAGS, 0o600, dir_fd=self._descriptor)
        raise AssertionError


def append_line(path: Path, raw: bytes) -> None:
    """Adds a line to a file of its own, durably. Raises `OSError`. Blocks."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o640)
    try:
        write_all(descriptor, raw + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Raises `OSError` with some of it written, or none."""
    written = os.write(descriptor, content)
    while written < len(content):
        # A disk that fills up takes a part, and says why with the next try.
        written += os.write(descriptor, content[written:])
