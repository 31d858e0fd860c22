"""Which process is on the other end of a socket."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class CallingProcess:
    """As the kernel says. What nobody has found out is `None`."""

    uid: int | None = None
    pid: int | None = None
    # SHA-256 of its executable, in hexadecimal.
    executable: str | None = None
    gid: int | None = None
    # Its executable runs what other files say, so that its hash says nothing.
    is_interpreter: bool = False
    started: datetime | None = None
    # The path of its cgroup, as in /proc/PID/cgroup; a pod's UID is part of it.
    cgroup: str | None = None
    # Of AppArmor or SELinux, as in /proc/PID/attr/current.
    label: str | None = None

    def __hash__(self) -> int:
        # For each record of a signature; the rest seldom differs where these do not.
        return hash((self.uid, self.pid))


UNKNOWN = CallingProcess()
