"""Whether times can be relied on: certificates, leases and deny lists are compared with them."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from sidecar.doctor.finding import Finding, Verdict

# Nobody starts this program before it was written.
_EARLIEST = 2025
_LATEST = 2100
# sys/timex.h: adjtimex(2) returns that while nothing keeps the clock right.
_TIME_ERROR = 5


class _Timex(ctypes.Structure):
    """The kernel writes 208 bytes; nothing in them is read."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 252))


@dataclass(frozen=True)
class ClockFacts:
    """Of this machine's clocks."""

    # As adjtimex(2) returns it; -1 where it may not be asked.
    state: int
    # CLOCK_BOOTTIME, by which leases run.
    since_boot: timedelta

    @classmethod
    def read(cls) -> Self:
        # With no modes it changes nothing.
        state = int(ctypes.CDLL(None).adjtimex(ctypes.byref(_Timex())))
        return cls(state, timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME)))


def examine_clock(now: datetime, facts: ClockFacts) -> Iterator[Finding]:
    """The time of day and what keeps it right, and the time since the boot."""
    if not _EARLIEST <= now.year < _LATEST:
        yield Finding("clock", Verdict.FAILURE, f"it is not {now:%Y-%m-%d}: set it, and keep it so")
    elif facts.state == _TIME_ERROR:
        detail = f"{now:%Y-%m-%d %H:%M} UTC, and nothing synchronises it: run chrony, or another"
        yield Finding("clock", Verdict.WARNING, detail)
    elif facts.state < 0:
        detail = f"{now:%Y-%m-%d %H:%M} UTC; whether it is synchronised cannot be told here"
        yield Finding("clock", Verdict.WARNING, detail)
    else:
        yield Finding("clock", Verdict.OK, f"{now:%Y-%m-%d %H:%M} UTC, synchronised")
    yield Finding("boot clock", Verdict.OK, f"{facts.since_boot.days} days since the boot")
