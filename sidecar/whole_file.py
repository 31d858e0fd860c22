"""Small files as a whole: read as they were at one moment, replaced in one step.

Everything here blocks and raises `OSError`: who calls it knows what the file is for.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read(path: Path, most: int, *, follow: bool = True) -> bytes:
    """The content, from one opening of `path`; the first byte too many is in it.

    A file that is replaced by a rename, or by the symlink swap of a ConfigMap mount, is read
    as it was before or as it is after, never half of each. Nothing but a regular file is read,
    and no FIFO's writer is waited for. Without `follow` a symbolic link is none.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        _require_regular(descriptor)
        # Closed below, because `open` leaves a directory's descriptor open when it refuses it.
        with open(descriptor, "rb", closefd=False) as file:  # it is open already
            return file.read(most + 1)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes, mode: int) -> None:
    """Puts `content` in the place of `path`, with `mode` whatever the umask.

    After a crash there is the old content or the new; `sync` the directory so that it is the
    new. A symbolic link is replaced, not followed. One at a time for each path.
    """
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)  # of a crash, or planted
    try:
        _write(unfinished, content, mode)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def sync(directory: Path) -> None:
    """Makes last what was replaced in `directory`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_regular(descriptor: int) -> None:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file")


def _write(path: Path, content: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fchmod(descriptor, mode)
        # Before the rename, or a crash could leave the new name with nothing in it.
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
