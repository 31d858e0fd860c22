"""A real process that is started as root and becomes the user of its own."""

from __future__ import annotations

import os
import pwd
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sidecar.hardening.process import has_capability, process_status
from tests.fixtures.mesh import Mesh
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.toml import toml
from tests.fixtures.users import CALLER, IS_ROOT, SIDECAR, give, separated, with_python_for_all

# linux/capability.h
_CAP_IPC_LOCK = 14


@pytest.fixture
def settings(mesh: Mesh) -> dict[str, Any]:
    return separated(mesh)


def _serve(mesh: Mesh, settings: Mapping[str, Any], before: tuple[str, ...] = ()) -> MeshkeyProcess:
    return mesh.serve("web", toml(settings), (*with_python_for_all(), *before))


@pytest.fixture
def sidecar(mesh: Mesh, settings: dict[str, Any]) -> MeshkeyProcess:
    process = _serve(mesh, settings)
    process.wait_until_ready()
    return process


def test_it_is_the_users_and_has_no_way_back(sidecar: MeshkeyProcess) -> None:
    status = process_status(Path(f"/proc/{sidecar.pid}/status"))
    assert status["Uid"].split() == [str(SIDECAR.pw_uid)] * 4
    assert status["Gid"].split() == [str(SIDECAR.pw_gid)] * 4
    groups = {*os.getgrouplist(SIDECAR.pw_name, SIDECAR.pw_gid), CALLER.pw_gid}
    assert set(map(int, status["Groups"].split())) >= groups - {SIDECAR.pw_gid}
    if IS_ROOT:
        assert set(map(int, status["Groups"].split())) == groups
    for capabilities in ("CapPrm", "CapEff", "CapAmb"):
        assert int(status[capabilities], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Umask"] == "0077"


def test_its_memory_is_kept_to_itself(sidecar: MeshkeyProcess) -> None:
    limits = Path(f"/proc/{sidecar.pid}/limits").read_text(encoding="utf-8")
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    # The files of a process that is dumpable belong to its user (proc(5)).
    assert Path(f"/proc/{sidecar.pid}/maps").stat().st_uid == 0


@pytest.mark.parametrize("user", [SIDECAR.pw_name, None], ids=["another user", "as it started"])
def test_memory_is_locked_or_it_is_said_why_not(
    mesh: Mesh, settings: dict[str, Any], user: str | None
) -> None:
    settings["process"] = {"user": user} if user else {}
    if user is None and IS_ROOT:
        give(mesh.directory, pwd.getpwuid(0))
    process = _serve(mesh, settings)
    process.wait_until_ready()
    locked = process_status(Path(f"/proc/{process.pid}/status"))["VmLck"] != "0 kB"
    told = process.logged("memory is not locked, and may be swapped out")
    assert locked != bool(told)
    if user is None and has_capability(_CAP_IPC_LOCK):
        assert locked


def test_sockets_are_the_groups_and_what_it_writes_is_its_own(
    sidecar: MeshkeyProcess, settings: dict[str, Any]
) -> None:
    expected = {
        settings["signer"]["socket"]: (SIDECAR.pw_uid, CALLER.pw_gid, 0o660),
        settings["sds"]["socket"]: (SIDECAR.pw_uid, CALLER.pw_gid, 0o660),
        settings["admin"]["socket"]: (SIDECAR.pw_uid, SIDECAR.pw_gid, 0o600),
        settings["audit"]["directory"]: (SIDECAR.pw_uid, SIDECAR.pw_gid, 0o700),
    }
    for path, (uid, gid, mode) in expected.items():
        status = path.stat()
        found = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        assert found == (uid, gid, mode), path


def test_what_it_inherited_is_closed(mesh: Mesh, settings: dict[str, Any]) -> None:
    pipe = mesh.directory / "pipe"
    os.mkfifo(pipe)
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        keeps_one = ("sh", "-c", f'exec 7>{pipe}; exec "$@"', "sh")
        process = _serve(mesh, settings, keeps_one)
        process.wait_until_ready()
        assert reader.read() == b"", "nobody has its other end"


def test_no_program_that_it_starts_would_have_a_descriptor_of_its(sidecar: MeshkeyProcess) -> None:
    directory = Path(f"/proc/{sidecar.pid}/fdinfo")
    if not IS_ROOT:
        with pytest.raises(PermissionError):
            list(directory.iterdir())
        return
    for entry in directory.iterdir():
        # Some are open for a moment only.
        with suppress(FileNotFoundError):
            target = entry.parent.with_name("fd").joinpath(entry.name).readlink()
            flags = re.search(r"^flags:\s+(\d+)$", entry.read_text("ascii"), re.MULTILINE)
            assert flags
            # SoftHSM2 opens its files without; Python closes those before it starts a program.
            if int(entry.name) > 2 and "tokens" not in target.parts:
                assert int(flags[1], 8) & os.O_CLOEXEC, target


def test_one_that_is_another_users_is_refused(mesh: Mesh, settings: dict[str, Any]) -> None:
    other = CALLER.pw_name if IS_ROOT else "root"
    settings["process"]["user"] = other
    # Root would become any user: it is one of them already.
    already = ("setpriv", f"--reuid={SIDECAR.pw_uid}", "--clear-groups") if IS_ROOT else ()
    mesh.directory.joinpath("web.toml").write_text("")
    process = _serve(mesh, settings, already)
    assert process.wait() == 64
    assert f"process.user is {other}, and this process is {SIDECAR.pw_name}'s" in process.log_text()


_BECOMES = """
import os, sys
from sidecar.hardening import privileges
{changed}
privileges.become({uid})
print("became", os.getresuid())
"""


def _become(uid: int, changed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*with_python_for_all(), sys.executable, "-c", _BECOMES.format(changed=changed, uid=uid)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_who_is_the_user_already_stays_it() -> None:
    ran = _become(os.geteuid())
    assert ran.stdout.startswith("became"), ran.stderr


@pytest.mark.parametrize(
    "changed",
    [
        # SECBIT_NO_SETUID_FIXUP: the capabilities stay, and with them the way back.
        "import ctypes; assert not ctypes.CDLL(None).prctl(28, 1 << 2, 0, 0, 0)",
        "os.setresuid = lambda r, e, s: os.seteuid(e)",
        "os.setgroups = lambda groups: None",
        "os.setresgid = lambda r, e, s: None",
    ],
    ids=["capabilities", "saved user", "groups", "group"],
)
def test_a_way_back_to_root_is_found(changed: str) -> None:
    ran = _become(SIDECAR.pw_uid, changed if IS_ROOT else "os.geteuid = lambda: 0")
    assert not ran.stdout
    said = "kept privileges of root" if IS_ROOT else "cannot become"
    assert said in ran.stderr


def test_a_user_that_cannot_read_the_program_is_told() -> None:
    ran = _become(SIDECAR.pw_uid, "os.access = lambda path, mode: False")
    if IS_ROOT:
        assert "install Python and meshkey where every user can" in ran.stderr
    else:
        assert ran.stdout.startswith("became"), "it is its own program"


def test_a_user_in_no_database_is_refused() -> None:
    ran = _become(3_999_999_999, "" if IS_ROOT else "os.geteuid = lambda: 0")
    assert "is in no user database" in ran.stderr


_UNDONE = """
import ctypes
from sidecar.hardening import start
def become(uid, group):
    # What fs.suid_dumpable = 1 does to a process that changes its user.
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
start.become = become
start.become_user(1, None)
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def test_where_changing_the_user_makes_it_dumpable_it_is_made_undumpable_again() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _UNDONE], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "0\n"
