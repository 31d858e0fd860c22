"""What a process is known by."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sidecar.callers.credentials import Credentials, Peer, process_start
from sidecar.callers.executables import Executable, Executables
from sidecar.callers.interpreters import is_interpreter
from sidecar.callers.kernel import numbers_are_ours
from sidecar.callers.proc import boot_time, cgroup_path, security_label
from sidecar.core.process import CallingProcess
from sidecar.errors import CallerRefused

_ANOTHER = "the process runs another program than before"


@dataclass(frozen=True)
class Measured:
    """A process at one moment."""

    process: CallingProcess
    # In ticks since the boot, as the time of day may be set.
    start: int | None = None
    # `None`: it cannot be read, or the process cannot be seen.
    executable: Executable | None = None

    def require_same(self, earlier: Measured) -> None:
        """Compares what stays the same until the next execve(2).

        Raises:
            CallerRefused: it runs another program than it did.
        """
        if self._constant() != earlier._constant():
            raise CallerRefused(_ANOTHER)

    def _constant(self) -> tuple[object, ...]:
        if self.executable is None:
            return (self.start,)
        # Not its times: they change with each link to the file, and when it is removed.
        file = self.executable.identity
        return self.start, file.device, file.inode, self.executable.sha256


def measure(peer: Peer, executables: Executables) -> Measured:
    """What there is to know of `peer` now. Blocks while it reads a program it does not know.

    What cannot be read is `None`.

    Raises:
        CallerRefused: it has ended, or became another program meanwhile.
        OSError: we are out of descriptors or memory, or the disk fails.
    """
    # Another thread may close `peer`, and its descriptor's number would be another's.
    with closing(peer.duplicate()) as own:
        if own.credentials.pid and numbers_are_ours():
            measured = _visible(own.credentials, executables)
        else:
            # In another PID namespace, or /proc is: there is no number by which to look for it.
            measured = Measured(CallingProcess(uid=own.credentials.uid, gid=own.credentials.gid))
        # What was read under its number was of this process only if it has not ended since.
        if own.ended:
            raise CallerRefused("the process has ended")
        return measured


def _visible(credentials: Credentials, executables: Executables) -> Measured:
    directory = Path(f"/proc/{credentials.pid}")
    try:
        start, file = process_start(credentials.pid), _file(directory)
        path = _executable_path(directory)
        executable = executables.read(directory / "exe")
        process = CallingProcess(
            uid=credentials.uid,
            pid=credentials.pid,
            executable=executable.sha256 if executable else None,
            gid=credentials.gid,
            is_interpreter=path is not None and is_interpreter(path),
            started=_moment(start),
            cgroup=_cgroup(directory),
            label=_label(directory),
        )
        # A path or a label that is another program's is none of this one's.
        if (process_start(credentials.pid), _file(directory)) != (start, file):
            raise CallerRefused(_ANOTHER)
    except ProcessLookupError as error:
        raise CallerRefused("the process has ended") from error
    return Measured(process, start, executable)


def _file(directory: Path) -> tuple[int, int] | None:
    """Which file the process runs, whatever it is called."""
    try:
        status = (directory / "exe").stat()
    except (PermissionError, FileNotFoundError):
        return None
    return status.st_dev, status.st_ino


def _executable_path(directory: Path) -> str | None:
    try:
        return str((directory / "exe").readlink())
    except (PermissionError, FileNotFoundError):
        return None


def _cgroup(directory: Path) -> str | None:
    try:
        # Not as text, in which a carriage return in a path would become a new line.
        return cgroup_path((directory / "cgroup").read_bytes().decode("utf-8", "replace"))
    except (PermissionError, FileNotFoundError):
        return None


def _label(directory: Path) -> str | None:
    try:
        return security_label((directory / "attr" / "current").read_bytes())
    except ProcessLookupError:
        raise
    except OSError:
        return None  # no such security module, or it keeps it to itself


def _moment(start: int) -> datetime:
    booted = boot_time(Path("/proc/stat").read_text("utf-8"))
    since = timedelta(seconds=start / os.sysconf("SC_CLK_TCK"))
    return datetime.fromtimestamp(booted, UTC) + since
