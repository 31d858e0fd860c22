"""Who has connected a Unix socket, as the kernel noted when it did."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sidecar.callers.kernel import SO_PEERPIDFD, PidIdentity, pid_identity, unknown_user
from sidecar.callers.proc import start_ticks
from sidecar.errors import CallerRefused

# struct ucred of unix(7): pid, uid, gid.
_UCRED = struct.Struct("iII")
# The peer has ended and its parent has heard of it. Before Linux 6.16 it has no pidfd then.
_ENDED = (errno.ESRCH, errno.EINVAL)


@dataclass(frozen=True)
class Credentials:
    """Of the process that called connect(2), whoever has the descriptor now.

    The pid is 0 where we cannot see the process.
    """

    uid: int
    gid: int
    pid: int

    @classmethod
    def of(cls, connection: socket.socket) -> Self:
        """Of the other side of `connection`."""
        ucred = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, gid = _UCRED.unpack(ucred)
        return cls(uid, gid, pid)


class Peer:
    """A process that has connected; it holds a descriptor of it until it is closed."""

    def __init__(self, credentials: Credentials, pidfd: int | None) -> None:
        self.credentials = credentials
        # Readable once the process has ended. Only a kernel without SO_PEERPIDFD has none for a
        # process that we cannot see.
        self.pidfd = pidfd
        self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def of(cls, connection: socket.socket, how: PidIdentity | None = None) -> Self:
        """The other side of `connection`; `how` to know it, or the best way there is.

        Raises:
            CallerRefused: it has ended, or cannot be known for certain.
        """
        credentials = Credentials.of(connection)
        if credentials.uid == unknown_user():
            raise CallerRefused(
                f"user {credentials.uid} stands for all that this user namespace does not know"
            )
        try:
            pidfd = _pidfd(connection, credentials.pid, how or pid_identity())
        except OSError as error:
            if error.errno in _ENDED:
                raise CallerRefused("the process that connected has ended") from error
            raise CallerRefused(f"no descriptor of its process: {error.strerror}") from error
        return cls(credentials, pidfd)

    @property
    def ended(self) -> bool:
        """Whether the process has: its number may be another's from then on."""
        if self.pidfd is None:
            return False
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def duplicate(self) -> Peer:
        """The same process, with a descriptor of its own. May be called from any thread.

        Raises:
            CallerRefused: this one was closed.
        """
        with self._lock:
            if self._closed:
                raise CallerRefused("its connection is closed")
            return Peer(self.credentials, None if self.pidfd is None else os.dup(self.pidfd))

    def close(self) -> None:
        """Once or more."""
        with self._lock:
            if not self._closed and self.pidfd is not None:
                os.close(self.pidfd)
            self._closed = True


def _pidfd(connection: socket.socket, pid: int, how: PidIdentity) -> int | None:
    if how is PidIdentity.PEER_PIDFD:
        return connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    if how is PidIdentity.NONE:
        raise CallerRefused(f"to tell processes apart this kernel has {how.value}")
    return _opened(pid) if pid else None


def _opened(pid: int) -> int:
    before = process_start(pid)
    pidfd = os.pidfd_open(pid)
    if process_start(pid) == before:
        return pidfd
    os.close(pidfd)
    raise CallerRefused(f"process {pid} is another one now")


def process_start(pid: int) -> int:
    """When the process that has that number now was started, in ticks since the boot.

    Raises:
        OSError: there is none; ESRCH.
    """
    try:
        # Its name may be any bytes.
        return start_ticks(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace"))
    except FileNotFoundError as error:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from error
