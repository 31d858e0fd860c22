"""Everything that a start insists on and the doctor reports, in one list."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from sidecar.config.settings import Settings
from sidecar.errors import ConfigurationError
from sidecar.hardening.privileges import user_name
from sidecar.separation.callers import kept_apart, require_other_user
from sidecar.separation.directory import (
    described,
    group_name,
    require_closed_directory,
    require_socket_directory,
)
from sidecar.separation.places import authorities, secrets, sockets
from sidecar.separation.reach import require_out_of_reach, require_unwritable
from sidecar.separation.way import way_seen

# What it is called, and what says how it is or raises `ConfigurationError`.
Check: TypeAlias = tuple[str, Callable[[], str]]


@dataclass(frozen=True)
class Process:
    """Who this process is."""

    uid: int
    groups: Collection[int]

    @classmethod
    def current(cls) -> Process:
        return cls(os.geteuid(), {os.getegid(), *os.getgroups()})


def checks(settings: Settings, process: Process, environment: Mapping[str, str]) -> Iterator[Check]:
    """What must hold before a sidecar may serve. Blocks, and so does each check."""
    if settings.signer and settings.signer.group is not None:
        group = settings.signer.group
        yield "signer.group", partial(_require_member, group, process)
    for name, socket in sockets(settings):
        yield name, partial(require_socket_directory, socket.parent, name, process.uid)
    if settings.admin:
        directory = settings.admin.socket.parent
        yield (
            "admin.socket",
            partial(require_closed_directory, directory, "admin.socket", process.uid),
        )
    for name, place in secrets(settings, environment):
        yield f"{name}: out of callers' reach", partial(_kept, place, name, settings, process.uid)
    for name, place in authorities(settings):
        yield (
            f"{name}: not to be written by callers",
            partial(_unwritten, place, name, settings, process.uid),
        )
    for rule in settings.callers:
        if not (settings.signer and settings.signer.allow_own_user):
            yield f"caller {rule.name}", partial(require_other_user, rule, process.uid)


def _require_member(group: int, process: Process) -> str:
    # Root may give a file to any group (chown(2)).
    if process.uid and group not in process.groups:
        raise ConfigurationError(
            f"signer.group: {user_name(process.uid)} is not in {group_name(group)}: usermod -aG "
            f"{group_name(group)} {user_name(process.uid)}, or start as root with process.user"
        )
    return group_name(group)


def _kept(place: Path, what: str, settings: Settings, ours: int) -> str:
    for caller in kept_apart(settings, ours):
        require_out_of_reach(place, what, caller)
    return _seen(place)


def _unwritten(place: Path, what: str, settings: Settings, ours: int) -> str:
    for caller in kept_apart(settings, ours):
        require_unwritable(place, what, caller)
    return _seen(place)


def _seen(place: Path) -> str:
    end = way_seen(place).end
    return described(end) if end else f"{place}: not there yet, or not to be seen"
