"""Child processes that leave a log and die with their parent."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sidecar.errors import StartFailed

_STOP_S = 15.0
_POLL_S = 0.02


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Polls until `condition()` holds.

    Raises:
        StartFailed: it did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StartFailed(f"waited {seconds:.0f} s for {what}")
        time.sleep(_POLL_S)


class Process:
    """A running program. Leaving the context stops it."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                # The kernel stops the child when this process ends, however it ends.
                ["setpriv", "--pdeathsig", "TERM", *command],  # noqa: S607
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def cpu_seconds(self) -> float:
        """User and system time since its start."""
        # proc(5): fields 14 and 15 of stat; the name before them may hold spaces.
        fields = (
            Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_mb(self) -> float:
        """Resident memory in MB (10^6 bytes)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 1e6

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Waits like `wait_for`, but not for a process that has ended.

        Raises:
            StartFailed: with the end of the log.
        """
        try:
            wait_for(lambda: not self.running or condition(), what, seconds)
        except StartFailed as error:
            raise StartFailed(f"{self.name}: {error}\n{self.tail()}") from error
        if not self.running:
            raise StartFailed(
                f"{self.name} ended with {self._child.returncode} before {what}\n{self.tail()}"
            )

    def stop(self) -> int:
        """SIGTERM, then SIGKILL; returns the exit status."""
        self._child.terminate()
        try:
            return self._child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL; returns the exit status."""
        self._child.kill()
        return self._child.wait()

    def tail(self, lines: int = 20) -> str:
        """The end of the log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])
