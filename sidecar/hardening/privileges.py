"""Gives up what this process was started with and does not need."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from dataclasses import dataclass

import sidecar
from sidecar.errors import ConfigurationError, StartFailed
from sidecar.hardening.memory import lift_lock_limit
from sidecar.hardening.process import has_capabilities
from sidecar.hardening.system_calls import prctl

# linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38


def forbid_new_privileges() -> None:
    """No program that this process starts gets more than it has, by set-user-ID bits or others.

    Raises:
        StartFailed: the kernel refused.
    """
    prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def become(uid: int, group: int | None = None) -> None:
    """Makes this process the user's for good, if it is root's. One of the user's stays as it is.

    It has the user's groups, and `group`. Call it before a file is opened that the user shall
    not read.

    Raises:
        ConfigurationError: this process is neither root's nor the user's, or the user is unknown.
        StartFailed: the kernel refused, or root's privileges could be had back.
    """
    ours = os.geteuid()
    if ours == uid:
        return
    if ours:
        raise ConfigurationError(
            f"process.user is {user_name(uid)}, and this process is {user_name(ours)}'s: start it "
            "as the one or as root"
        )
    user = _user(uid, group)
    lift_lock_limit()
    _change(user)
    _require_no_way_back(user)
    _require_code(user)


def user_name(uid: int) -> str:
    """The name, and the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


@dataclass(frozen=True)
class _User:
    uid: int
    gid: int
    name: str
    groups: frozenset[int]


def _user(uid: int, group: int | None) -> _User:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise ConfigurationError(
            f"process.user {uid} is in no user database, so its groups are unknown: add it with "
            "useradd, or start this process as that user and leave process.user out"
        ) from None
    groups = {*os.getgrouplist(entry.pw_name, entry.pw_gid)}
    if group is not None:
        groups.add(group)
    return _User(uid, entry.pw_gid, entry.pw_name, frozenset(groups))


def _change(user: _User) -> None:
    try:
        # In this order: without root's privileges the groups could not be changed any more.
        os.setgroups(sorted(user.groups))
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        raise StartFailed(
            f"cannot become {user.name}: {error.strerror}; start this process as that user"
        ) from error


def _require_no_way_back(user: _User) -> None:
    became = (
        os.getresuid() == (user.uid,) * 3
        and os.getresgid() == (user.gid,) * 3
        and set(os.getgroups()) == user.groups
    )
    if not became or has_capabilities() or _is_root_again():
        raise StartFailed(
            f"became {user.name} and kept privileges of root (capabilities(7), securebits): start "
            "this process as that user"
        )


def _is_root_again() -> bool:
    with suppress(PermissionError):
        os.seteuid(0)
        return True
    return False


def _require_code(user: _User) -> None:
    """Parts of the program are loaded when they are needed, and so as the user."""
    for file in (os.__file__, sidecar.__file__):
        if not os.access(file, os.R_OK):
            raise StartFailed(
                f"{user.name} cannot read {file}: install Python and meshkey where every user can"
            )
