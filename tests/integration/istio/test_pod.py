"""The sidecar in a pod of Istio: directories, users, probes, and a certificate of istiod's."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from tests.fixtures.istio_pod import GROUP, PROXY, SIDECAR, SPIFFE_ID, IstioPod
from tests.fixtures.istiod_thread import IstiodThread
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.users import IS_ROOT
from tests.fixtures.waiting import eventually


def ready(pod: IstioPod) -> MeshkeyProcess:
    process = pod.serve()
    process.wait_until_ready()
    eventually(lambda: pod.probe() == 0, "the readiness probe")
    return process


def seen(path: Path) -> tuple[int, int, str]:
    status = path.stat()
    return status.st_uid, status.st_gid, f"{stat.S_IMODE(status.st_mode):04o}"


def test_the_init_step_makes_what_the_containers_mount_and_belongs_to_the_sidecars_user(
    pod: IstioPod,
) -> None:
    assert {
        "signer": seen(pod.signer),
        "admin": seen(pod.admin),
        "sds": seen(pod.sds),
        "module": seen(pod.library / "libmeshkey.so"),
        "state": seen(pod.state),
        "pin": seen(pod.state / "mesh.pin"),
    } == {
        "signer": (SIDECAR, GROUP, "0750"),
        "admin": (SIDECAR, GROUP, "0700"),
        "sds": (SIDECAR, GROUP, "0750"),
        "module": (SIDECAR, GROUP, "0444"),
        "state": (SIDECAR, GROUP, "0700"),
        "pin": (SIDECAR, GROUP, "0400"),
    }


def test_an_init_container_that_is_started_again_changes_nothing(fresh_pod: IstioPod) -> None:
    assert fresh_pod.run_prepare().returncode == 0
    pin = (fresh_pod.volumes / "store" / "store" / "mesh.pin").read_text()
    again = fresh_pod.run_prepare()
    assert again.returncode == 0, again.stderr
    assert (fresh_pod.volumes / "store" / "store" / "mesh.pin").read_text() == pin


def test_the_volume_itself_would_be_refused(fresh_pod: IstioPod) -> None:
    fresh_pod.run_prepare()
    sockets = fresh_pod.volumes / "sockets"
    fresh_pod.settings["signer"]["socket"] = sockets / "signer" / "signer.sock"
    process = fresh_pod.serve()
    assert process.wait() == 64
    assert f"{sockets}, which is above it, can be written by everybody" in process.log_text()


def test_istiods_certificate_is_served_to_the_proxy_and_the_probes_say_so(pod: IstioPod) -> None:
    ready(pod)
    status = json.loads(pod.command("status", "--json").stdout)
    (identity,) = status["identities"]
    assert (identity["spiffe_id"], identity["health"]) == (SPIFFE_ID, "valid")
    assert pod.probe("--live") == 0


def test_before_there_is_a_certificate_the_pod_lives_and_is_not_ready(
    pod: IstioPod, istiod: IstiodThread
) -> None:
    assert pod.probe() != 0, "nothing has started"
    assert pod.probe("--live") != 0
    istiod.keep_waiting()
    pod.serve().wait_until_ready()
    assert pod.probe() == 69
    assert "no certificate yet" in pod.command("health").stdout
    assert pod.probe("--live") == 0
    istiod.answer()
    eventually(lambda: pod.probe() == 0, "the startup probe")


def test_a_token_that_is_lost_is_no_reason_to_restart_the_pod_which_has_it_back_by_itself(
    pod: IstioPod,
) -> None:
    process = ready(pod)
    tokens = pod.state / "tokens"
    tokens.rename(pod.state / "away")
    assert "C_Initialize failed" in pod.command("rotate").stderr
    assert pod.probe("--live") == 0
    assert process.running
    (pod.state / "away").rename(tokens)
    assert pod.command("rotate").stdout == "default: generation 2 is published\n"
    assert pod.probe() == 0


_REACHES = """
import json, os, pathlib, socket, sys
signer, sds, admin, state = map(pathlib.Path, sys.argv[1:])
def tried(what):
    try:
        what()
    except OSError as error:
        return type(error).__name__
    return "done"
def connect(path):
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
print(json.dumps({
    "connect to the signer": tried(lambda: connect(signer / "signer.sock")),
    "connect to SDS": tried(lambda: connect(sds / "meshkey.sock")),
    "connect to admin": tried(lambda: connect(admin / "admin.sock")),
    "put a socket beside the signer": tried(lambda: (signer / "mine").touch()),
    "replace the signer": tried(lambda: (signer / "signer.sock").unlink()),
    "put a socket beside SDS": tried(lambda: (sds / "mine").touch()),
    "replace SDS": tried(lambda: (sds / "meshkey.sock").unlink()),
    "look into the store": tried(lambda: list(state.iterdir())),
    "read the PIN": tried(lambda: (state / "mesh.pin").read_bytes()),
    "look into admin": tried(lambda: list(admin.iterdir())),
}))
"""


def test_the_proxy_can_use_two_sockets_and_nothing_else(pod: IstioPod) -> None:
    if not IS_ROOT:
        pytest.skip("only root can start a process of another user")
    ready(pod)
    told = json.loads(pod.as_proxy(_REACHES, pod.signer, pod.sds, pod.admin, pod.state))
    assert {what for what, came in told.items() if came == "done"} == {
        "connect to the signer",
        "connect to SDS",
    }
    assert set(told.values()) == {"done", "PermissionError"}


def test_the_proxy_loads_the_module_and_cannot_write_it(pod: IstioPod) -> None:
    script = (
        "import os, sys; print(os.access(sys.argv[1], os.R_OK), os.access(sys.argv[1], os.W_OK),"
        "os.access(os.path.dirname(sys.argv[1]), os.W_OK))"
    )
    told = pod.as_proxy(script, pod.library / "libmeshkey.so").split()
    # Without other users the proxy is the owner of the directory.
    assert told == ["True", "False", str(not IS_ROOT)]


def test_the_sidecar_is_its_own_user_and_has_no_capability(pod: IstioPod) -> None:
    process = ready(pod)
    fields = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (user,) = [line.split()[1:] for line in fields if line.startswith("Uid:")]
    (bounding,) = [line.split()[1] for line in fields if line.startswith("CapBnd:")]
    assert user == [str(SIDECAR)] * 4
    if IS_ROOT:
        assert int(bounding, 16) == 0
        assert SIDECAR != PROXY


def test_the_image_looks_for_the_token_where_the_init_step_has_put_it(pod: IstioPod) -> None:
    dockerfile = (Path(__file__).parents[3] / "Dockerfile").read_text(encoding="utf-8")
    (tokens,) = re.findall(r"directories\.tokendir = (\S+?)\\n", dockerfile)
    assert [*(pod.state / "tokens").iterdir()]
    # In the container `state` is this.
    assert tokens == "/var/lib/meshkey/tokens"
    assert "libmeshkey.so /opt/meshkey/lib/libmeshkey.so" in dockerfile
