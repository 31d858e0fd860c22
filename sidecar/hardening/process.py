"""What this process is and has, as the kernel says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_STATUS = Path("/proc/self/status")
# Of the sets of capabilities those that this process can use, or take back.
_USABLE = ("CapPrm", "CapEff", "CapAmb")


def process_status(file: Path = _STATUS) -> Mapping[str, str]:
    """The lines of /proc/PID/status (proc(5)), by name."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def has_capability(number: int) -> bool:
    """Whether it is in effect, by its number in linux/capability.h."""
    return bool(int(process_status()["CapEff"], 16) >> number & 1)


def has_capabilities() -> bool:
    """Whether any is in effect or could be brought back."""
    status = process_status()
    return any(int(status[name], 16) for name in _USABLE)
