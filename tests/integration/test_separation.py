"""Real processes whose callers could put themselves in the sidecar's place: none of them starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.fixtures.mesh import Mesh
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.toml import toml
from tests.fixtures.users import CALLER, IS_ROOT, SIDECAR, separated, with_python_for_all

_Break = Callable[[Mesh, dict[str, Any]], None]

# A user that no machine has: where nobody else can be one, modes decide all the same.
_NOBODY_HERE = 3_999_999_991


def _serve(mesh: Mesh, settings: dict[str, Any]) -> MeshkeyProcess:
    return mesh.serve("web", toml(settings), with_python_for_all())


def _rule(uid: int) -> dict[str, Any]:
    rights = {"identities": ["default"], "purposes": ["tls13-server"]}
    return {"caller": [{"name": "envoy", "uid": uid, **rights}]}


def _world_writable(mesh: Mesh, settings: dict[str, Any]) -> None:
    (mesh.directory / "run").chmod(0o777)


def _writable_above(mesh: Mesh, settings: dict[str, Any]) -> None:
    mesh.directory.chmod(0o777)


def _group_writable(mesh: Mesh, settings: dict[str, Any]) -> None:
    (mesh.directory / "run").chmod(0o770)


def _linked(mesh: Mesh, settings: dict[str, Any]) -> None:
    (mesh.directory / "open").mkdir()
    (mesh.directory / "open").chmod(0o777)
    (mesh.directory / "link").symlink_to("open")
    settings["signer"]["socket"] = mesh.directory / "link" / "signer"


def _open_admin(mesh: Mesh, settings: dict[str, Any]) -> None:
    settings["admin"]["socket"] = mesh.directory / "run" / "admin"


def _open_store(mesh: Mesh, settings: dict[str, Any]) -> None:
    settings.update(_rule(_NOBODY_HERE))
    store = mesh.store("web")
    store.directory.chmod(0o755)
    store.tokens.chmod(0o755)


def _open_audit(mesh: Mesh, settings: dict[str, Any]) -> None:
    settings.update(_rule(_NOBODY_HERE))
    directory = mesh.directory / "audit"
    directory.mkdir(mode=0o755)
    os.chown(directory, SIDECAR.pw_uid, SIDECAR.pw_gid)
    settings["audit"]["directory"] = directory


def _own_user(mesh: Mesh, settings: dict[str, Any]) -> None:
    settings.update(_rule(SIDECAR.pw_uid))


def _root(mesh: Mesh, settings: dict[str, Any]) -> None:
    settings.update(_rule(0))


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (_world_writable, "/run can be written by everybody"),
        (_group_writable, "/run can be written by "),
        (_writable_above, "which is above it, can be written by everybody"),
        (_linked, "/open can be written by everybody"),
        (_open_admin, "/run is open to others"),
        (_open_store, "the token's store: caller envoy can reach"),
        (_open_audit, "audit.directory: caller envoy can reach"),
        (_own_user, "sidecar's own user"),
        (_root, "root"),
    ],
)
def test_it_does_not_start_and_says_what_to_do(mesh: Mesh, breaks: _Break, said: str) -> None:
    settings = separated(mesh)
    breaks(mesh, settings)
    process = _serve(mesh, settings)
    assert process.wait() == 64
    (line,) = [each for each in process.log_text().splitlines() if each.startswith("meshkey: ")]
    assert said in line
    assert not process.logged("token opened"), "before the PIN is read"
    assert not (mesh.directory / "run" / "signer").exists()


def test_to_evaluate_callers_may_be_the_sidecars_own_user(mesh: Mesh) -> None:
    settings = separated(mesh) | _rule(SIDECAR.pw_uid)
    settings["signer"]["allow_own_user"] = True
    process = _serve(mesh, settings)
    process.wait_until_ready()
    (warned,) = process.logged("callers may be the sidecar's own user: for evaluation only")
    assert warned["level"] == "warning"


_ATTACKS = """
import os, socket, sys
user, group, directory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.setgroups([])
os.setresgid(group, group, group)
os.setresuid(user, user, user)
def connect(path):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
run, private = f"{directory}/run", f"{directory}/private"
attacks = {
    "use the signer": lambda: connect(f"{run}/signer"),
    "command": lambda: connect(f"{private}/admin"),
    "remove the signer": lambda: os.unlink(f"{run}/signer"),
    "replace the signer": lambda: os.rename(f"{run}/signer", f"{run}/other"),
    "be the signer": lambda: open(f"{run}/sneaky", "w"),
    "replace the directory": lambda: os.rename(run, f"{directory}/gone"),
    "open the signer to all": lambda: os.chmod(f"{run}/signer", 0o666),
    "read the PIN": lambda: open(f"{directory}/web-store/web.pin"),
    "copy the store": lambda: os.listdir(f"{directory}/web-store/tokens"),
    "read the log": lambda: os.listdir(f"{private}/audit"),
    "read the memory": lambda: open(f"/proc/{sys.argv[4]}/mem", "rb"),
    "stop it": lambda: os.kill(int(sys.argv[4]), 15),
}
for name, attack in attacks.items():
    try:
        attack()
        print(name)
    except PermissionError:
        pass
"""


def test_a_compromised_proxy_can_ask_the_signer_and_nothing_else(mesh: Mesh) -> None:
    settings = separated(mesh) | _rule(CALLER.pw_uid)
    process = _serve(mesh, settings)
    if not IS_ROOT:
        # Only root can be two users: who is one alone is told so.
        assert process.wait() == 64
        assert "is the sidecar's own user" in process.log_text()
        return
    process.wait_until_ready()
    who = map(str, (CALLER.pw_uid, CALLER.pw_gid, mesh.directory, process.pid))
    ran = subprocess.run(
        [sys.executable, "-c", _ATTACKS, *who], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines() == ["use the signer"]


_COMMAND = """
import os, sys
from pathlib import Path
from sidecar.admin.client import AdminClient, CommandFailed
socket, user = Path(sys.argv[1]), int(sys.argv[2])
# Loads what the other user may not read. From another socket: as long as a connection is not
# taken down, gRPC uses it for the next channel to the same one.
try:
    with AdminClient(socket.with_name("none")) as warmed_up:
        warmed_up.status()
except CommandFailed:
    pass
os.setresuid(user, user, user)
try:
    with AdminClient(socket) as client:
        client.status()
        print("in")
except CommandFailed:
    print("out")
"""


def _commanded_by(mesh: Mesh, uid: int) -> str:
    socket = str(mesh.directory / "private" / "admin")
    command = [sys.executable, "-c", _COMMAND, socket, str(uid)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_callers_user_gives_no_commands_even_if_it_gets_to_the_socket(mesh: Mesh) -> None:
    settings = separated(mesh) | _rule(CALLER.pw_uid)
    # Alone, one user is both.
    settings["signer"]["allow_own_user"] = not IS_ROOT
    process = _serve(mesh, settings)
    process.wait_until_ready()
    # As no start would allow it.
    (mesh.directory / "private").chmod(0o755)
    (mesh.directory / "private" / "admin").chmod(0o666)
    assert _commanded_by(mesh, SIDECAR.pw_uid) == "in"
    if IS_ROOT:
        assert _commanded_by(mesh, 0) == "in"
        assert _commanded_by(mesh, CALLER.pw_uid) == "out"
        assert _commanded_by(mesh, _NOBODY_HERE) == "out"
        refused = process.logged("caller refused")
        assert {each["uid"] for each in refused} == {CALLER.pw_uid, _NOBODY_HERE}
