"""`meshkey serve` on each kind of certificate authority, and on several at once."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.fakes.istio_ca import CLUSTER_ID, SERVER_NAME, ClientFiles, IstioCa
from tests.fakes.istio_ca import running as running_ca
from tests.fakes.istio_rules import Istiod
from tests.fakes.kubernetes_api import TOKEN
from tests.fakes.service_account_tokens import TokenIssuer
from tests.fixtures.configurations import sections, serve
from tests.fixtures.kubernetes import running_cluster
from tests.fixtures.kubernetes_asking import SIGNER
from tests.fixtures.mesh import (
    TRUST_DOMAIN,
    Mesh,
    identity_status,
    spiffe_id,
    wait_for_generation,
)
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.toml import toml
from tests.fixtures.waiting import eventually


@pytest.fixture
async def istio() -> AsyncIterator[IstioCa]:
    """It answers while the event loop is free."""
    async with running_ca(Istiod(), TRUST_DOMAIN) as ca:
        yield ca


def _istio(mesh: Mesh, ca: IstioCa) -> dict[str, Any]:
    files = ClientFiles(mesh.directory)
    files.write(ca)
    return {
        "kind": "istio",
        "name": "mesh-ca",
        "address": f"127.0.0.1:{ca.port}",
        "root_file": files.root,
        "token_file": files.token,
        "cluster_id": CLUSTER_ID,
        "server_name": SERVER_NAME,
        "deadline": "2s",
    }


def _identity(mesh: Mesh, *roots: bytes) -> dict[str, Any]:
    bundle = mesh.directory / "trusted.pem"
    bundle.write_bytes(b"".join(roots))
    return {"spiffe_id": spiffe_id(), "trust_bundle": bundle}


def _kubernetes(kubeconfig: Path) -> dict[str, Any]:
    return {"kind": "kubernetes", "signer_name": SIGNER, "kubeconfig": kubeconfig}


async def _stopped(ca: IstioCa) -> None:
    await ca.stop()


async def _distrusting(ca: IstioCa) -> None:
    ca.tokens = TokenIssuer()


async def _silent(ca: IstioCa) -> None:
    ca.open.clear()


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        (_stopped, "UNAVAILABLE: .*; see whether it runs, and compare ca.address"),
        (_distrusting, "UNAUTHENTICATED: .*; the CA's log has the reason"),
        (_silent, "DEADLINE_EXCEEDED: .*; see whether it is overloaded or cut off"),
    ],
    ids=["down", "refuses", "hangs"],
)
async def test_the_second_ca_helps_until_the_first_does_again(
    mesh: Mesh, istio: IstioCa, fail: Callable[[IstioCa], Awaitable[None]], told: str
) -> None:
    first, tokens = _istio(mesh, istio), istio.tokens
    await fail(istio)

    def begin() -> MeshkeyProcess:
        mesh.start_issuer()
        identity = _identity(mesh, mesh.root_file.read_bytes(), istio.rules.pki.root.pem)
        spare = {"name": "spare", "socket": mesh.socket("ca")}
        started = serve(mesh, sections(mesh, identity=identity, ca=[first, spare]))
        wait_for_generation(started, 1)
        return started

    sidecar = await asyncio.to_thread(begin)
    seen = identity_status(sidecar)
    assert (seen.generation, seen.authority, seen.last_error) == (1, "spare", "")
    (failure,) = sidecar.logged("CA did not help")
    assert failure["ca"] == "mesh-ca"
    assert re.search(f"Istio CA 127.0.0.1:{istio.port}: {told}", failure["error"])
    istio.tokens = tokens
    istio.open.set()
    await istio.restart()
    rotated = await asyncio.to_thread(sidecar.cli, "rotate")
    assert rotated.returncode == 0, rotated.stderr
    seen = identity_status(sidecar)
    assert (seen.generation, seen.authority, seen.last_error) == (2, "mesh-ca", "")
    assert [entry["ca"] for entry in sidecar.logged("certificate published")] == [
        "spare",
        "mesh-ca",
    ]
    assert len(sidecar.logged("CA did not help")) == 1


async def test_when_no_ca_helps_the_reason_of_each_is_told(mesh: Mesh, istio: IstioCa) -> None:
    first = _istio(mesh, istio)
    await istio.stop()
    identity = _identity(mesh, istio.rules.pki.root.pem)
    spare = {"name": "spare", "socket": mesh.socket("ca")}
    sidecar = serve(mesh, sections(mesh, identity=identity, ca=[first, spare]))
    eventually(lambda: identity_status(sidecar).last_error, "the first failure")
    told = identity_status(sidecar).last_error
    assert re.search(r"mesh-ca: Istio CA 127.0.0.1:\d+: UNAVAILABLE: .*; spare: local CA: ", told)


# Whoever imports it ends the process.
_POISON = "raise SystemExit('the Kubernetes client was imported')\n"


@pytest.fixture
def _no_kubernetes(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned = short_dir / "poisoned"
    poisoned.mkdir()
    (poisoned / "kubernetes.py").write_text(_POISON, encoding="ascii")
    path = [str(poisoned), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


@pytest.mark.usefixtures("_no_kubernetes")
async def test_on_istios_ca_alone_the_kubernetes_client_is_not_imported(
    mesh: Mesh, istio: IstioCa
) -> None:
    identity = _identity(mesh, istio.rules.pki.root.pem)
    configured = sections(mesh, identity=identity, ca=_istio(mesh, istio))
    sidecar = await asyncio.to_thread(serve, mesh, configured)
    seen = await asyncio.to_thread(wait_for_generation, sidecar, 1)
    assert seen.authority == "mesh-ca"
    (call,) = istio.calls
    (bearer,) = call.values("authorization")
    assert str(bearer).removeprefix("Bearer ") not in sidecar.log_text()


@pytest.mark.usefixtures("_no_kubernetes")
def test_and_where_it_is_imported_that_is_noticed(mesh: Mesh) -> None:
    process = mesh.serve("web", toml(sections(mesh, ca=_kubernetes(mesh.directory / "gone"))))
    assert process.wait() == 1
    assert "the Kubernetes client was imported" in process.log_text()


def test_a_signer_of_the_kubernetes_api_gives_the_certificate(mesh: Mesh) -> None:
    with running_cluster(mesh.directory) as running:
        running.cluster.react = running.cluster.approve_and_issue
        identity = _identity(mesh, running.signer.root.pem)
        configured = sections(mesh, identity=identity, ca=_kubernetes(running.kubeconfig()))
        sidecar = serve(mesh, configured)
        seen = wait_for_generation(sidecar, 1)
        assert (seen.authority, seen.last_error) == ("kubernetes", "")
        # What was created is deleted.
        eventually(lambda: not running.cluster.names, "the request is gone")
        assert TOKEN not in sidecar.log_text()
        assert sidecar.stop() == 0, sidecar.log_text()


def test_a_denied_request_is_told_and_the_next_one_may_be_approved(mesh: Mesh) -> None:
    with running_cluster(mesh.directory) as running:
        running.cluster.react = running.cluster.deny
        identity = _identity(mesh, running.signer.root.pem)
        configured = sections(mesh, identity=identity, ca=_kubernetes(running.kubeconfig()))
        sidecar = serve(mesh, configured)
        eventually(lambda: identity_status(sidecar).last_error, "the refusal")
        assert "WrongNamespace" in identity_status(sidecar).last_error
        running.cluster.react = running.cluster.approve_and_issue
        assert wait_for_generation(sidecar, 1).last_error == ""


# As docs/ca.md has it, for the CA that no network reaches.
_FOUND = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 "
    "-subj /CN=offline -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem"
)
_SIGN = (
    "openssl x509 -req -in carried/offline.csr -CA ca.pem -CAkey ca.key -days 1 "
    "-copy_extensions copy -out leaf.pem && cat leaf.pem ca.pem > carried/.new && "
    "mv carried/.new carried/offline.pem"
)


def test_a_request_is_carried_to_a_ca_that_no_network_reaches(mesh: Mesh) -> None:
    carried = mesh.directory / "carried"
    carried.mkdir()
    _run(mesh, _FOUND)
    identity = {
        "spiffe_id": spiffe_id(),
        "trust_bundle": mesh.directory / "ca.pem",
        "orphan_grace": "1s",
    }
    authority = {"kind": "file", "name": "offline", "directory": carried}
    configured = sections(mesh, identity=identity, ca=authority)
    killed = serve(mesh, configured)
    eventually((carried / "offline.csr").exists, "the request")
    assert identity_status(killed).health == "waiting"
    killed.kill()
    (carried / "offline.csr").unlink()
    sidecar = serve(mesh, configured)
    eventually((carried / "offline.csr").exists, "the next request")
    _run(mesh, _SIGN)
    seen = wait_for_generation(sidecar, 1)
    assert (seen.authority, seen.last_error) == ("offline", "")
    # Its key, which waited long for its certificate, is no orphan as the one before it is.
    eventually(lambda: sidecar.logged("key destroyed"), "the orphan is destroyed")
    (destroyed,) = sidecar.logged("key destroyed")
    assert destroyed["key_id"] != seen.key_id.hex()
    signed = x509.load_pem_x509_certificate((mesh.directory / "leaf.pem").read_bytes())
    assert seen.serial == f"{signed.serial_number:x}"
    assert [file.name for file in carried.iterdir()] == ["offline.pem"]
    assert sidecar.stop() == 0, sidecar.log_text()


def _run(mesh: Mesh, command: str) -> None:
    ran = subprocess.run(
        ["bash", "-euc", command], cwd=mesh.directory, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
