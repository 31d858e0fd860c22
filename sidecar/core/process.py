"""Which process is on the other end of a socket."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CallingProcess:
    """As the kernel says. What nobody has found out is `None`."""

    uid: int | None = None
    pid: int | None = None
    # SHA-256 of its executable, in hexadecimal.
    executable: str | None = None


UNKNOWN = CallingProcess()
