"""The clocks of a real process."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sidecar.core.lease import Reading
from sidecar.core.rotation import Moment

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME_NAMESPACE = Path("/proc/self/ns/time")


def wall() -> datetime:
    """The date and time, in UTC."""
    return datetime.now(UTC)


def steady() -> timedelta:
    """Never set, and stands still while the machine is suspended (CLOCK_MONOTONIC)."""
    return timedelta(seconds=time.monotonic())


def boot() -> timedelta:
    """Never set, and goes on while the machine is suspended (CLOCK_BOOTTIME)."""
    return timedelta(microseconds=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)


def reading() -> Reading:
    """The date, and the time since the boot."""
    return Reading(wall(), boot())


def boot_id() -> str:
    """Which boot `boot` counts from; empty where that cannot be read. Blocks, on procfs only.

    A time namespace has a start of its own for the clock (time_namespaces(7)), so a container
    that comes back in another one is told from the one before.
    """
    try:
        booted = _BOOT_ID.read_text(encoding="ascii").strip()
        namespace = _TIME_NAMESPACE.readlink() if _TIME_NAMESPACE.is_symlink() else ""
    except (OSError, ValueError):
        return ""
    return f"{booted} {namespace}".rstrip() if booted else ""


def moment() -> Moment:
    """The date, and the time that Python's timers run by."""
    return Moment(wall(), steady())
