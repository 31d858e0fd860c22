"""SHA-256 of the files that processes run."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Of different programs; callers are few, and each runs one.
_REMEMBERED = 64
# Envoy has 150 MB. What is larger is not read: the caller chooses the file.
_LARGEST = 1 << 30
# A file that is changed twice within the clock's grain keeps its time of change. One that rests
# for longer cannot be another one with the same time.
_RESTED_S = 2.0
# The process has ended, is not ours to look at (ptrace(2)), or has no executable.
_NOT_TO_BE_READ = {errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO}


@dataclass(frozen=True)
class FileIdentity:
    """What changes when a file is replaced or written to."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True)
class Executable:
    """A file that a process runs."""

    identity: FileIdentity
    sha256: str


class Executables:
    """Hashes each file once for as long as it stays as it is. Use it from any thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970, as the file systems' does."""
        self._clock = clock
        self._hashes: OrderedDict[FileIdentity, str] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, link: Path) -> Executable | None:
        """What is at `link`, a /proc/PID/exe. Blocks while it reads the file.

        `None`: it may not be read, is no file, is too large, or changes while it is read.

        Raises:
            OSError: we are out of descriptors or memory, or the disk fails.
        """
        try:
            file = link.open("rb", buffering=0)
        except OSError as error:
            if error.errno in _NOT_TO_BE_READ:
                return None
            raise
        with file:
            before = _identity(file.fileno())
            if before is None:
                return None
            if (known := self._known(before)) is not None:
                return Executable(before, known)
            # Lets the interpreter's lock go while it hashes.
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if _identity(file.fileno()) != before:
                return None
        self._remember(before, digest)
        return Executable(before, digest)

    def _known(self, identity: FileIdentity) -> str | None:
        with self._lock:
            if digest := self._hashes.get(identity):
                self._hashes.move_to_end(identity)
            return digest

    def _remember(self, identity: FileIdentity, digest: str) -> None:
        if abs(self._clock() - identity.changed_ns / 1e9) < _RESTED_S:
            return
        with self._lock:
            self._hashes[identity] = digest
            while len(self._hashes) > _REMEMBERED:
                self._hashes.popitem(last=False)


def _identity(descriptor: int) -> FileIdentity | None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
        return None
    return FileIdentity(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )
