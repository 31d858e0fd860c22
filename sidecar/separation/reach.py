"""Who can get at a file, as far as owners and modes say; access control lists are not read."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from sidecar.errors import ConfigurationError
from sidecar.hardening.privileges import user_name
from sidecar.separation.way import Look, Step, way_seen

_READ, _WRITE, _ENTER = 4, 2, 1


@dataclass(frozen=True)
class Caller:
    """Whoever has this uid and these groups; any uid, if that is `None`."""

    name: str
    uid: int | None
    groups: frozenset[int]

    def rights(self, step: Step) -> int:
        """Read, write and enter, as in a mode's last digit.

        The first of owner, group and others that one is decides (path_resolution(7)).
        """
        if step.status.st_uid == self.uid:
            return step.mode >> 6 & 7
        if step.status.st_gid in self.groups:
            return step.mode >> 3 & 7
        return step.mode & 7


def require_out_of_reach(path: Path, what: str, caller: Caller, look: Look = os.lstat) -> None:
    """Blocks.

    Raises:
        ConfigurationError: the caller can read, write, enter or replace what is at `path`.
    """
    end = _end(path, what, caller, look)
    if end is None:
        return
    is_directory = stat.S_ISDIR(end.status.st_mode)
    if caller.rights(end) & (_READ | _WRITE | (_ENTER if is_directory else 0)):
        raise ConfigurationError(
            f"{what}: {caller.name} can reach {end.path}, mode {end.mode:04o}: "
            f"chmod {'0700' if is_directory else '0400'} {end.path}"
        )


def require_unwritable(path: Path, what: str, caller: Caller, look: Look = os.lstat) -> None:
    """Blocks.

    Raises:
        ConfigurationError: the caller can write or replace the file at `path`.
    """
    end = _end(path, what, caller, look)
    if end and caller.rights(end) & _WRITE:
        raise ConfigurationError(
            f"{what}: {caller.name} can write {end.path}, mode {end.mode:04o}: "
            f"chmod go-w {end.path}"
        )


def _end(path: Path, what: str, caller: Caller, look: Look) -> Step | None:
    """What is at `path`, if it is there and the caller can come to it.

    Raises:
        ConfigurationError: he can put something else there.
    """
    way = way_seen(path, look)
    for step in way.above:
        _check_owner(step, what, caller)
        if step.is_link:
            continue
        rights = caller.rights(step)
        if not rights & _ENTER:
            return None
        # With the sticky bit each may rename only what is his own.
        if rights & _WRITE and not step.mode & stat.S_ISVTX:
            raise ConfigurationError(
                f"{what}: {caller.name} can write {step.path}, mode {step.mode:04o}, and replace "
                f"what is below: chmod go-w {step.path}, or choose another place"
            )
    if way.end:
        _check_owner(way.end, what, caller)
    return way.end


def _check_owner(step: Step, what: str, caller: Caller) -> None:
    if step.status.st_uid == caller.uid:
        raise ConfigurationError(
            f"{what}: {step.path} belongs to {user_name(caller.uid)}, who is {caller.name}: chown "
            "it to the sidecar's user, or choose another place"
        )
