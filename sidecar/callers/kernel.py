"""What this kernel says about who has connected."""

from __future__ import annotations

import os
import socket
from enum import Enum
from pathlib import Path

# asm-generic/socket.h, Linux 6.5; Python has no name for it.
SO_PEERPIDFD = 77
# linux/capability.h
_CAP_SYS_PTRACE = 19


class PidIdentity(Enum):
    """How the process that has connected is told from a later one with the same number."""

    PEER_PIDFD = "SO_PEERPIDFD"
    START_TIME = "pidfd_open with a start-time check"
    NONE = "nothing: neither SO_PEERPIDFD (Linux 6.5) nor pidfd_open (Linux 5.3)"


def pid_identity() -> PidIdentity:
    """The best way that there is here. It tries them out."""
    ours, other = socket.socketpair()
    with ours, other:
        try:
            os.close(ours.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
        except OSError:
            pass
        else:
            return PidIdentity.PEER_PIDFD
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return PidIdentity.NONE
    return PidIdentity.START_TIME


def unknown_user() -> int | None:
    """The number that stands for every user whom our user namespace does not know.

    `None`: it knows all of them. user_namespaces(7), "Unmapped user and group IDs".
    """
    known = [line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
    if sum(int(count) for _, _, count in known) >= 2**32 - 1:
        return None
    return int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))


def numbers_are_ours() -> bool:
    """Whether /proc numbers processes as the kernel does for us.

    It does not where it was mounted in another PID namespace: the same number is another process.
    """
    return str(Path("/proc/self").readlink()) == str(os.getpid())


def sees_other_users_programs() -> bool:
    """Whether we may read which file a process of another user runs: CAP_SYS_PTRACE, ptrace(2)."""
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> _CAP_SYS_PTRACE & 1)
    return False
