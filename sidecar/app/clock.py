"""The clocks of a real process."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from sidecar.core.rotation import Moment


def wall() -> datetime:
    """The date and time, in UTC."""
    return datetime.now(UTC)


def steady() -> timedelta:
    """Never set, and stands still while the machine is suspended (CLOCK_MONOTONIC)."""
    return timedelta(seconds=time.monotonic())


def moment() -> Moment:
    """Both."""
    return Moment(wall(), steady())
