"""The texts of /proc, see proc(5) and cgroups(7)."""

from __future__ import annotations

from sidecar.core.printable import printable

_STARTTIME = 22
# What is left of a line after the name of the program begins with field 3.
_AFTER_NAME = 3
# Where the controllers of version 1 are still in use, the first of these that there is.
_HIERARCHIES = ("name=systemd", "pids", "memory", "cpu")


def start_ticks(stat: str) -> int:
    """From /proc/PID/stat: when it was started, in clock ticks since the boot.

    Raises:
        ValueError: that is no such text.
    """
    # A program's name may hold spaces and parentheses, and what follows it may not.
    _, found, after = stat.rpartition(")")
    fields = after.split()
    if not found or len(fields) <= _STARTTIME - _AFTER_NAME:
        raise ValueError("no line of /proc/PID/stat")
    return int(fields[_STARTTIME - _AFTER_NAME])


def boot_time(stat: str) -> int:
    """From /proc/stat: when the machine was started, in seconds since 1970.

    Raises:
        ValueError: it does not say.
    """
    for line in stat.splitlines():
        name, _, value = line.partition(" ")
        if name == "btime":
            return int(value)
    raise ValueError("no btime in /proc/stat")


def cgroup_path(text: str) -> str | None:
    """From /proc/PID/cgroup: the path in the unified hierarchy or, without one, in version 1."""
    paths = {}
    # A path may hold colons, and every kind of new line but this one.
    for line in text.removesuffix("\n").split("\n"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        for controller in controllers.split(","):
            paths[controller] = path
    unified = paths.get("")
    if unified and unified != "/":
        return unified
    return next((paths[name] for name in _HIERARCHIES if paths.get(name)), unified or None)


def security_label(text: bytes) -> str | None:
    """From /proc/PID/attr/current. AppArmor ends it with a line feed, SELinux with a zero."""
    return printable(text.rstrip(b"\n\0").decode("utf-8", "replace")) or None
