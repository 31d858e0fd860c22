"""What Istio's agent makes of the sidecar's socket: a real sidecar, late, slow, dead and back."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest

from sidecar._proto.third_party import envoy_sds_pb2 as pb
from tests.e2e.shim import Shim
from tests.fakes.istio_agent import DEFAULT_NAME, Decision, Start, decide
from tests.fixtures.discovery import SERVICE, sotw_request
from tests.fixtures.istio_pod import IstioPod, read_only
from tests.fixtures.istiod_thread import IstiodThread
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.users import IS_ROOT
from tests.fixtures.waiting import BOUND_S, eventually

EXTERNAL = Start(Decision.EXTERNAL)
NO_SOCKET = Start(Decision.ENDED, "no socket found")


def ready(pod: IstioPod) -> MeshkeyProcess:
    process = pod.serve()
    process.wait_until_ready()
    eventually(lambda: pod.probe() == 0, "the startup probe")
    return process


def crash(process: MeshkeyProcess) -> None:
    process.stop(signal.SIGKILL)


@contextmanager
def stream(path: Path, *names: str, version: str = "") -> Iterator[pb.DiscoveryResponse]:
    """What Envoy is answered first, on a stream that stays open; as any of our callers."""
    options = [("grpc.default_authority", "localhost")]
    with closing(grpc.insecure_channel(f"unix:{path}", options=options)) as channel:
        call = channel.stream_stream(
            f"{SERVICE}/StreamSecrets",
            request_serializer=pb.DiscoveryRequest.SerializeToString,
            response_deserializer=pb.DiscoveryResponse.FromString,
        )
        first = sotw_request(*names, version=version, node="sidecar~10.0.0.1~web.test~test.local")
        answers = call(iter([first]), timeout=BOUND_S, wait_for_ready=True)
        yield next(answers)


def test_behind_the_startup_probe_the_agent_uses_the_sidecars_socket(pod: IstioPod) -> None:
    ready(pod)
    assert pod.start_agent() == EXTERNAL


def test_an_agent_that_comes_first_ends_and_finds_the_socket_when_it_is_started_again(
    pod: IstioPod,
) -> None:
    assert pod.start_agent() == NO_SOCKET
    ready(pod)
    assert pod.start_agent() == EXTERNAL


def test_while_the_token_is_slow_there_is_no_socket_that_could_be_taken_for_one(
    pod: IstioPod, short_dir: Path
) -> None:
    shim = Shim.build(short_dir)
    # For the sidecar's user, whom the directory above lets pass.
    shim.module.chmod(0o755)
    shim.rule("C_Login hang")
    shim.rules.chmod(0o644)
    pod.settings["token"] |= {"module": shim.module, "profile": "softhsm2"}
    told = pod.state / "sessions"
    process = pod.serve(**shim.environment, MESHKEY_SHIM_SESSIONS=str(told))
    eventually(lambda: [*told.parent.glob("sessions.*")], "it waits for the token")
    assert pod.start_agent() == NO_SOCKET
    shim.rule()
    shim.rules.chmod(0o644)
    process.wait_until_ready()
    assert pod.start_agent() == EXTERNAL


def test_while_the_ca_is_slow_the_agent_may_start_and_envoy_waits_for_its_answer(
    pod: IstioPod, istiod: IstiodThread
) -> None:
    istiod.keep_waiting()
    pod.serve().wait_until_ready()
    # The dial is all that the agent asks; who starts it behind the startup probe spares it that.
    assert pod.start_agent() == EXTERNAL
    assert pod.probe() == 69
    istiod.answer()
    eventually(lambda: pod.probe() == 0, "the startup probe")


def test_what_a_crash_leaves_behind_ends_the_agent_and_is_replaced_by_the_next_sidecar(
    pod: IstioPod,
) -> None:
    crash(ready(pod))
    assert pod.sds_socket.is_socket()
    start = pod.start_agent()
    if IS_ROOT:
        # The directory is the sidecar's: the agent can delete nothing there.
        refused = "existing SDS socket could not be removed: Permission denied"
        assert start == Start(Decision.ENDED, refused)
    else:
        assert start == Start(Decision.ENDED, "no socket found", deleted=True)
    ready(pod)
    assert pod.start_agent() == EXTERNAL


def test_a_socket_that_an_agent_has_deleted_is_there_again_after_the_next_start(
    pod: IstioPod,
) -> None:
    crash(ready(pod))
    # As where the whole volume is mounted, which everybody may write.
    assert decide(pod.sds, pod.sds_socket.name) == Start(
        Decision.ENDED, "no socket found", deleted=True
    )
    ready(pod)
    assert pod.sds_socket.is_socket()
    assert pod.start_agent() == EXTERNAL


def test_a_sidecar_that_stops_leaves_no_dead_socket(pod: IstioPod) -> None:
    process = ready(pod)
    assert process.stop() == 0
    assert pod.start_agent() == NO_SOCKET


def test_on_a_read_only_mount_the_sidecars_socket_is_used(pod: IstioPod) -> None:
    _require_root()
    ready(pod)
    assert pod.start_agent(before=read_only(pod.sds)) == EXTERNAL


def test_on_a_read_only_mount_a_dead_socket_ends_the_agent_under_either_name(
    pod: IstioPod,
) -> None:
    _require_root()
    pod.sds.chmod(0o777)
    _dead_socket(pod.sds / DEFAULT_NAME)
    _dead_socket(pod.sds_socket)
    for name in (DEFAULT_NAME, pod.sds_socket.name):
        start = pod.start_agent(name, read_only(pod.sds))
        refused = "existing SDS socket could not be removed: Read-only file system"
        assert start == Start(Decision.ENDED, refused)


@pytest.mark.parametrize("dead", [False, True], ids=["missing", "dead"])
def test_under_the_default_name_the_agent_fails_open_in_a_directory_that_it_may_write(
    pod: IstioPod, dead: bool
) -> None:
    """The trap: why the name is another one, and the directory is not the proxy's to write."""
    pod.sds.chmod(0o777)
    if dead:
        _dead_socket(pod.sds / DEFAULT_NAME)
    assert pod.start_agent(DEFAULT_NAME) == Start(Decision.OWN_KEYS, deleted=dead)
    assert (pod.sds / DEFAULT_NAME).is_socket()


def test_under_the_default_name_the_agent_serves_no_keys_in_a_directory_that_is_not_its_own(
    pod: IstioPod,
) -> None:
    _require_root()
    start = pod.start_agent(DEFAULT_NAME)
    assert start == Start(Decision.NO_SECRETS, "Permission denied")
    start = pod.start_agent(DEFAULT_NAME, read_only(pod.sds))
    assert start.decision is Decision.NO_SECRETS


@pytest.mark.parametrize("name", ["sds/meshkey.sock", "../meshkey.sock", "/run/meshkey.sock"])
def test_the_socket_has_a_bare_name(pod: IstioPod, name: str) -> None:
    start = pod.start_agent(name)
    assert start == Start(Decision.ENDED, f"must be a filename, not a path: {name}")


def test_a_socket_that_accepts_and_says_nothing_is_taken_for_dead(pod: IstioPod) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(pod.sds_socket))
        silent.listen()
        assert decide(pod.sds, pod.sds_socket.name).deleted


def test_a_directory_in_its_place_is_removed_while_it_is_empty(pod: IstioPod) -> None:
    pod.sds_socket.mkdir()
    assert decide(pod.sds, pod.sds_socket.name).deleted
    pod.sds_socket.mkdir()
    (pod.sds_socket / "file").touch()
    assert decide(pod.sds, pod.sds_socket.name).reason.endswith("Directory not empty")


def test_after_a_restart_a_stream_that_has_the_old_version_is_answered_with_the_same(
    pod: IstioPod,
) -> None:
    if IS_ROOT:
        # These requests come from the tests' own user.
        pod.settings["signer"]["allow_own_user"] = True
        pod.settings["caller"] |= {"uid": 0, "gid": 0}
    process = ready(pod)
    names = ("default", "ROOTCA")
    with stream(pod.sds_socket, "default") as chain, stream(pod.sds_socket, "ROOTCA") as roots:
        before = {"default": chain.version_info, "ROOTCA": roots.version_info}
    crash(process)
    ready(pod)
    for name in names:
        with stream(pod.sds_socket, name, version=before[name]) as answer:
            assert answer.version_info == before[name]
            assert len(answer.resources) == 1


def _dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))


def _require_root() -> None:
    if not IS_ROOT:
        pytest.skip("only root can mount, or start a process of another user")
