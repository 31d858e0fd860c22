"""A sidecar whose CA goes away: its key signs as long as its lease, over restarts, too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar._proto.meshkey.admin.v1 import admin_pb2
from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar.core.lease import LeaseNote
from sidecar.identity.saved_leases import SavedLeases
from tests.fixtures.configurations import sections, serve
from tests.fixtures.mesh import Mesh, identity_status, spiffe_id, wait_for_generation
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.requests import sign_request
from tests.fixtures.waiting import BOUND_S, eventually, soon

_HOUR = timedelta(hours=1)


def _configured(mesh: Mesh, name: str, lease: str, **others: Any) -> dict[str, Any]:
    identity = {
        "spiffe_id": spiffe_id(name),
        "trust_bundle": mesh.root_file,
        "state": mesh.directory / f"{name}-state",
        "lease": lease,
    }
    return sections(mesh, name, identity=identity, **others)


async def _answer(mesh: Mesh, name: str, key_id: bytes) -> pb.SignResponse:
    async with mesh.channel(name) as channel:
        stub = signer_pb2_grpc.SignerStub(channel)
        answer = await stub.Sign(sign_request(key_id), timeout=BOUND_S)
    assert isinstance(answer, pb.SignResponse)
    return answer


async def test_signing_ends_with_the_lease_and_comes_back_with_the_ca(mesh: Mesh) -> None:
    issuer = mesh.start_issuer()
    sidecar = serve(mesh, _configured(mesh, "web", "10s"))
    wait_for_generation(sidecar, 1)
    assert issuer.stop() == 0
    eventually(lambda: identity_status(sidecar).last_error, "a renewal fails")
    before = identity_status(sidecar)
    # Ended by the lease, long before the certificate.
    assert before.lease_end < before.not_after - 60
    await soon(lambda: identity_status(sidecar).health == "lapsed", "the lease ends")
    assert time.time() < before.not_after
    refused = (await _answer(mesh, "web", before.key_id)).refusal
    assert refused.reason == pb.Refusal.REASON_LEASE
    assert "no CA has issued a certificate since" in refused.detail
    told = sidecar.cli("health")
    assert told.returncode == 69
    assert "its lease is over: no CA has issued a certificate since" in told.stdout
    assert "local CA: UNAVAILABLE" in told.stdout
    await soon(lambda: sidecar.logged("lease over, nothing is signed"))
    mesh.start_issuer()
    after = wait_for_generation(sidecar, before.generation + 1)
    assert (await _answer(mesh, "web", after.key_id)).signature
    assert sidecar.cli("health").returncode == 0


def _noted(mesh: Mesh, name: str) -> LeaseNote | None:
    return SavedLeases(mesh.directory / f"{name}-state").load("default")


def _ended(mesh: Mesh, name: str) -> LeaseNote:
    """What a sidecar that had a certificate has left of its lease."""
    sidecar = serve(mesh, _configured(mesh, name, "1h"), name)
    wait_for_generation(sidecar, 1)
    # It is published first, and then saved.
    eventually((mesh.directory / f"{name}-state" / "default.json").exists, "it is saved")
    assert sidecar.stop() == 0
    note = _noted(mesh, name)
    assert note
    return note


def _alone(mesh: Mesh, name: str) -> MeshkeyProcess:
    """The same sidecar, started without its CA."""
    nobody = {"socket": mesh.socket("nobody")}
    return serve(mesh, _configured(mesh, name, "1h", ca=nobody), name)


def _taken_up(sidecar: MeshkeyProcess) -> admin_pb2.IdentityStatus:
    status = wait_for_generation(sidecar, 1)
    assert (status.authority, status.health) == ("taken-up", "valid")
    return status


async def test_a_restart_within_the_same_boot_keeps_the_deadline(running_mesh: Mesh) -> None:
    mesh, name = running_mesh, "same-boot"
    before = _ended(mesh, name)
    assert before.boot_id
    status = _taken_up(_alone(mesh, name))
    after = _noted(mesh, name)
    assert after
    assert (after.lease, after.boot_id) == (before.lease, before.boot_id)
    assert after.mark > before.mark
    assert (await _answer(mesh, name, status.key_id)).signature


async def test_after_a_reboot_there_is_less_than_before(running_mesh: Mesh) -> None:
    mesh, name = running_mesh, "other-boot"
    before = _ended(mesh, name)
    SavedLeases(mesh.directory / f"{name}-state").save("default", replace(before, boot_id="other"))
    status = _taken_up(_alone(mesh, name))
    after = _noted(mesh, name)
    assert after
    assert after.boot_id == before.boot_id
    assert after.lease.deadline < before.lease.deadline
    assert (await _answer(mesh, name, status.key_id)).signature


def _mark_ahead(note: LeaseNote) -> LeaseNote:
    return replace(note, mark=note.mark + _HOUR)


def _mark_ahead_of_a_reboot(note: LeaseNote) -> LeaseNote:
    return replace(note, mark=note.mark + _HOUR, boot_id="other")


def _over(note: LeaseNote) -> LeaseNote:
    return replace(note, lease=replace(note.lease, begun=note.lease.begun - _HOUR))


def _of_another(note: LeaseNote) -> LeaseNote:
    return replace(note, lease=replace(note.lease, certificate="0a" * 32))


@pytest.mark.parametrize("change", [_mark_ahead, _mark_ahead_of_a_reboot, _over, _of_another])
def test_nothing_is_signed_until_the_ca_answers(
    running_mesh: Mesh, change: Callable[[LeaseNote], LeaseNote]
) -> None:
    mesh, name = running_mesh, change.__name__.strip("_").replace("_", "-")
    before = _ended(mesh, name)
    store = SavedLeases(mesh.directory / f"{name}-state")
    store.save("default", change(before))
    _waits_for_the_ca(mesh, name)


def _missing(file: Path) -> None:
    file.unlink()


def _torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [_missing, _torn])
def test_a_certificate_without_its_lease_is_of_no_use(
    running_mesh: Mesh, damage: Callable[[Path], None]
) -> None:
    mesh, name = running_mesh, f"{damage.__name__.strip('_')}-lease"
    _ended(mesh, name)
    damage(mesh.directory / f"{name}-state" / "default.lease")
    _waits_for_the_ca(mesh, name)


def _waits_for_the_ca(mesh: Mesh, name: str) -> None:
    sidecar = _alone(mesh, name)
    eventually(lambda: identity_status(sidecar).last_error, "the CA is asked in vain")
    told = identity_status(sidecar)
    assert (told.generation, told.key_id, told.health) == (0, b"", "waiting")
    assert len(sidecar.logged("saved certificate not used")) == 1
    assert sidecar.stop() == 0
    answered = serve(mesh, _configured(mesh, name, "1h"), name)
    assert wait_for_generation(answered, 1).authority == "local"
    assert answered.stop() == 0
    # What is on the disk now is good.
    _taken_up(_alone(mesh, name))
