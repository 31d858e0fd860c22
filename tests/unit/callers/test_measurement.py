"""What a process is known by, and what of that is believed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sidecar.callers import measurement
from sidecar.callers.credentials import Credentials, Peer, process_start
from sidecar.callers.executables import Executable, Executables
from sidecar.callers.measurement import Measured, measure
from sidecar.core.process import CallingProcess
from sidecar.errors import CallerRefused
from tests.fixtures.other_processes import ANOTHER_PID_NAMESPACE
from tests.fixtures.waiting import eventually

SLEEP = Path("/bin/sleep")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([SLEEP, "600"])
    eventually(lambda: Path(f"/proc/{process.pid}/exe").readlink().name == "sleep")
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def peer(child: subprocess.Popen[bytes]) -> Iterator[Peer]:
    """As if the child had connected."""
    with closing(Peer(Credentials(1, 2, child.pid), os.pidfd_open(child.pid))) as peer:
        yield peer


def test_what_a_process_is_known_by(child: subprocess.Popen[bytes], peer: Peer) -> None:
    process = measure(peer, Executables()).process
    assert (process.uid, process.gid, process.pid) == (1, 2, child.pid)
    assert process.executable == hashlib.sha256(SLEEP.read_bytes()).hexdigest()
    assert not process.is_interpreter
    assert process.started
    # Of the clock's second of the boot, more or less.
    assert abs((datetime.now(UTC) - process.started).total_seconds()) < 60
    own = Path("/proc/self/cgroup").read_text("utf-8")
    assert process.cgroup
    assert process.cgroup in own


def test_a_process_that_ends_while_it_is_looked_at_is_refused(
    child: subprocess.Popen[bytes], peer: Peer
) -> None:
    """Its number may be another's, and so may what was read."""

    class EndsIt(Executables):
        def read(self, link: Path) -> Executable | None:
            executable = super().read(link)
            child.kill()
            # Not reaped yet: its number is still its own, and /proc still tells of it.
            eventually(lambda: peer.ended)
            return executable

    with pytest.raises(CallerRefused):
        measure(peer, EndsIt())


@pytest.mark.parametrize("reaped", [True, False])
def test_a_process_that_has_ended_is_refused(
    child: subprocess.Popen[bytes], peer: Peer, reaped: bool
) -> None:
    child.kill()
    if reaped:
        child.wait()
    # Until its parent asks for it, /proc tells of it as before, but not of its program.
    eventually(lambda: peer.ended)
    with pytest.raises(CallerRefused, match="has ended"):
        measure(peer, Executables())


def test_a_number_that_another_process_has_now_is_not_believed(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = iter([process_start(child.pid), process_start(child.pid) + 1])
    monkeypatch.setattr(measurement, "process_start", lambda _pid: next(starts))
    # As on a kernel that gives no descriptor for it.
    with pytest.raises(CallerRefused, match="another program"):
        measure(Peer(Credentials(1, 2, child.pid), None), Executables())


def test_another_program_shows_by_its_file_and_by_its_start(peer: Peer) -> None:
    measured = measure(peer, Executables())
    measured.require_same(measure(peer, Executables()))
    assert measured.start
    for other in (
        Measured(measured.process, measured.start + 1, measured.executable),
        Measured(measured.process, measured.start, None),
    ):
        with pytest.raises(CallerRefused, match="another program"):
            other.require_same(measured)


def _link(program: Path) -> None:
    program.with_name("link").hardlink_to(program)


def _replace(program: Path) -> None:
    other = program.with_name("other")
    other.write_bytes(b"a newer version")
    other.rename(program)


@pytest.mark.parametrize("change", [_link, Path.unlink, _replace])
def test_what_is_done_to_a_files_names_changes_no_process(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Such as an update of Envoy's package while it runs."""
    program = Path(shutil.copy(SLEEP, tmp_path / "program"))
    with subprocess.Popen([program, "600"]) as child:
        eventually(lambda: Path(f"/proc/{child.pid}/exe").readlink() == program)
        pidfd = os.pidfd_open(child.pid)
        with closing(Peer(Credentials(1, 2, child.pid), pidfd)) as peer:
            executables = Executables()
            before = measure(peer, executables)
            change(program)
            after = measure(peer, executables)
            child.kill()
    after.require_same(before)
    assert before.executable
    assert after.executable
    assert after.executable.identity != before.executable.identity


@pytest.mark.parametrize("visible", [True, False])
def test_what_cannot_be_seen_is_not_known(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, visible: bool
) -> None:
    """The process is in another PID namespace; or /proc is, and its numbers are not ours."""
    monkeypatch.setattr(measurement, "numbers_are_ours", lambda: visible)
    pid = 0 if visible else child.pid
    measured = measure(Peer(Credentials(1, 2, pid), None), Executables())
    assert measured == Measured(CallingProcess(uid=1, gid=2))


_AS_ANOTHER_USER = """
import dataclasses, json, os, sys
from sidecar.callers.credentials import Credentials, Peer
from sidecar.callers.executables import Executables
from sidecar.callers.measurement import measure

pid = int(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
process = measure(Peer(Credentials(1, 2, pid), os.pidfd_open(pid)), Executables()).process
print(json.dumps([process.executable, process.is_interpreter, process.started is not None]))
"""


def test_a_program_that_we_may_not_look_at_is_not_known(child: subprocess.Popen[bytes]) -> None:
    """ptrace(2): another user needs CAP_SYS_PTRACE for it."""
    # Of root's there is always this one.
    pid = child.pid if os.geteuid() == 0 else 1
    printed = subprocess.check_output([sys.executable, "-c", _AS_ANOTHER_USER, str(pid)])
    assert json.loads(printed) == [None, False, True]


_CONFINED = """
import json, socket, sys
from sidecar.callers.credentials import Peer
from sidecar.callers.executables import Executables
from sidecar.callers.measurement import measure

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
connection, _ = listener.accept()
peer = Peer.of(connection)
process = measure(peer, Executables()).process
print(json.dumps([process.uid, process.pid, process.executable, peer.pidfd is not None]))
"""


def test_from_another_pid_namespace_only_the_user_is_known(short_dir: Path) -> None:
    """As in a pod without a shared one: the kernel gives 0 for the number."""
    path = short_dir / "s"
    with subprocess.Popen(
        [*ANOTHER_PID_NAMESPACE, sys.executable, "-c", _CONFINED, path], stdout=subprocess.PIPE
    ) as confined:
        eventually(path.exists)
        with socket.socket(socket.AF_UNIX) as ours:
            eventually(lambda: ours.connect_ex(str(path)) == 0)
            assert confined.stdout
            uid, pid, executable, has_descriptor = json.loads(confined.stdout.read())
    assert pid is None
    assert executable is None
    # In a user namespace of its own, it is another number.
    assert uid == (os.getuid() if os.geteuid() == 0 else 0)
    assert has_descriptor or not hasattr(socket, "SO_PEERPIDFD")
