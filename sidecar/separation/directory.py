"""Whether a directory is what it must be for a socket to be in it."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

from sidecar.errors import ConfigurationError, StartFailed
from sidecar.hardening.privileges import user_name
from sidecar.separation.way import Look, Step, way_to

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = 0o077


def require_socket_directory(directory: Path, what: str, ours: int, look: Look = os.lstat) -> str:
    """Nobody but root and the user `ours` can put another socket there. Blocks.

    Returns how it is; `what` is to be there.

    Raises:
        ConfigurationError: somebody can, and what to do about that.
        StartFailed: there is no such directory.
    """
    *before, last = _way(directory, what, ours, look)
    for step in before:
        _check_above(step, what, ours)
    _check_owner(last, what, ours)
    if last.mode & _OTHERS_WRITE:
        # Also with the sticky bit: they could be there first.
        raise ConfigurationError(
            f"{what}: {last.path} can be written by {_writers(last)}, who could serve a socket of "
            f"their own there: chmod go-w {last.path}, or choose another directory"
        )
    return described(last)


def require_closed_directory(directory: Path, what: str, ours: int, look: Look = os.lstat) -> str:
    """The same, and nobody else can even enter it.

    Raises:
        ConfigurationError: somebody can.
    """
    found = require_socket_directory(directory, what, ours, look)
    *_, last = way_to(directory, look)
    if last.mode & _OTHERS:
        raise ConfigurationError(
            f"{what}: {last.path} is open to others: chmod 0700 {last.path}, or choose a directory "
            "that callers' sockets are not in"
        )
    return found


def described(step: Step) -> str:
    """Whose it is, and its mode."""
    owner, group = user_name(step.status.st_uid), group_name(step.status.st_gid)
    return f"{step.path}: {owner}:{group}, mode {step.mode:04o}"


def group_name(gid: int) -> str:
    """The name, and the number where there is none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"group {gid}"


def _way(directory: Path, what: str, ours: int, look: Look) -> list[Step]:
    try:
        way = list(way_to(directory, look))
    except (FileNotFoundError, NotADirectoryError):
        way = []
    except OSError as error:
        raise ConfigurationError(
            f"{what}: {directory}: {error.strerror}; {user_name(ours)} must be able to enter it"
        ) from error
    if not way or not stat.S_ISDIR(way[-1].status.st_mode):
        raise StartFailed(f"{what}: {directory} is no directory; create it first")
    return way


def _check_above(step: Step, what: str, ours: int) -> None:
    """Who may rename what is in a directory may put another one in its place."""
    _check_owner(step, what, ours)
    # Everybody may write links' modes, and nobody links. In a directory with the sticky bit each
    # may rename only what is his own.
    if step.is_link or step.mode & stat.S_ISVTX or not step.mode & _OTHERS_WRITE:
        return
    raise ConfigurationError(
        f"{what}: {step.path}, which is above it, can be written by {_writers(step)}, who could "
        f"replace what is below: chmod go-w {step.path}, or choose another directory"
    )


def _check_owner(step: Step, what: str, ours: int) -> None:
    if (owner := step.status.st_uid) not in {0, ours}:
        is_ours = "" if ours else "set process.user if that is the sidecar's user, or "
        raise ConfigurationError(
            f"{what}: {step.path} belongs to {user_name(owner)}, who could replace what is there: "
            f"{is_ours}chown {user_name(ours)} {step.path}, or choose another directory"
        )


def _writers(step: Step) -> str:
    return "everybody" if step.mode & stat.S_IWOTH else group_name(step.status.st_gid)
