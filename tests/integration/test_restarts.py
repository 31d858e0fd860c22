"""A sidecar with `identity.state` that starts again: the same key, if everything still holds."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from sidecar._proto.meshkey.admin.v1 import admin_pb2
from sidecar.admin.client import CommandFailed
from sidecar.core.public_key import PublicKey
from tests.fixtures import certificates
from tests.fixtures.configurations import sections, serve, watching
from tests.fixtures.mesh import Mesh, identity_status, spiffe_id, wait_for_generation
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.requests import sign_request, verify
from tests.fixtures.toml import toml
from tests.fixtures.waiting import eventually

# More than a test takes, and as little.
_NEVER, _SOON = "1h", "1s"


def _configured(mesh: Mesh, name: str, grace: str, **others: Any) -> dict[str, Any]:
    identity = {
        "spiffe_id": spiffe_id(name),
        "trust_bundle": mesh.directory / f"{name}-roots.pem",
        "state": mesh.directory / f"{name}-state",
        "orphan_grace": grace,
    }
    return sections(mesh, name, identity=identity, **others)


def _roots(mesh: Mesh, name: str, *roots: bytes) -> None:
    (mesh.directory / f"{name}-roots.pem").write_bytes(b"".join(roots))


def _ended(
    mesh: Mesh, name: str, number: signal.Signals = signal.SIGTERM
) -> admin_pb2.IdentityStatus:
    """What a sidecar had when it ended."""
    _roots(mesh, name, mesh.root_file.read_bytes())
    sidecar = serve(mesh, _configured(mesh, name, _NEVER), name)
    before = wait_for_generation(sidecar, 1)
    assert before.authority == "local"
    # It is published first, and then saved.
    eventually((mesh.directory / f"{name}-state" / "default.json").exists, "it is saved")
    assert sidecar.stop(number) == (0 if number is signal.SIGTERM else -number)
    assert _keys(sidecar) == {before.key_id.hex()}
    return before


def _keys(process: MeshkeyProcess) -> set[str]:
    listed = process.cli("keys", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    return {key["key_id"] for key in json.loads(listed.stdout)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_same_key_and_certificate_are_taken_up_without_the_ca(
    running_mesh: Mesh, number: signal.Signals
) -> None:
    mesh, name = running_mesh, f"after-{number.name.lower()}"
    before = _ended(mesh, name, number)
    nobody = {"socket": mesh.socket("nobody")}
    sidecar = serve(mesh, _configured(mesh, name, _SOON, ca=nobody), name)
    after = wait_for_generation(sidecar, 1)
    assert (after.authority, after.last_error, after.health) == ("taken-up", "", "valid")
    assert (after.key_id, after.serial) == (before.key_id, before.serial)
    assert (after.not_after, after.generation) == (before.not_after, 1)
    async with watching(mesh.socket(name)) as (watcher, update):
        assert update.key_id == before.key_id
        leaf = x509.load_der_x509_certificate(update.certificate_chain[0])
        assert f"{leaf.serial_number:x}" == before.serial
        public_key = leaf.public_key()
        assert isinstance(public_key, PublicKey)
        request = sign_request(update.key_id)
        verify(public_key, request, await watcher.stub.Sign(request))
    # It was never asked, and is there in vain for the next renewal only.
    with sidecar.admin() as client, pytest.raises(CommandFailed, match="local CA: UNAVAILABLE"):
        client.rotate("default")
    assert identity_status(sidecar).serial == before.serial
    assert not sidecar.logged("keys of an earlier start found, destroying them")
    assert sidecar.stop() == 0, sidecar.log_text()
    assert _keys(sidecar) == {before.key_id.hex()}


def _torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _changed(file: Path) -> None:
    # Base64 of the chain, in which any other character stands for other bytes.
    file.write_bytes(file.read_bytes().replace(b"MII", b"MIJ", 1))


@pytest.mark.parametrize("damage", [_torn, _changed])
def test_without_what_was_saved_there_is_a_new_key_and_the_old_one_goes(
    running_mesh: Mesh, damage: Callable[[Path], None]
) -> None:
    mesh, name = running_mesh, f"{damage.__name__.strip('_')}-file"
    before = _ended(mesh, name)
    damage(mesh.directory / f"{name}-state" / "default.json")
    sidecar = serve(mesh, _configured(mesh, name, _SOON), name)
    after = wait_for_generation(sidecar, 1)
    assert (after.authority, after.last_error) == ("local", "")
    assert after.serial != before.serial
    eventually(lambda: _keys(sidecar) == {after.key_id.hex()}, "the orphan is destroyed")
    (found,) = sidecar.logged("keys of an earlier start found, destroying them")
    assert found["key_ids"] == [before.key_id.hex()]
    (unreadable,) = sidecar.logged("saved certificate unreadable")
    assert unreadable["file"].endswith("-state/default.json")
    # What is saved now is good.
    assert sidecar.stop() == 0
    again = wait_for_generation(serve(mesh, _configured(mesh, name, _SOON), name), 1)
    assert (again.authority, again.serial) == ("taken-up", after.serial)


def test_a_certificate_under_roots_that_are_trusted_no_more_is_not_taken_up(
    running_mesh: Mesh,
) -> None:
    mesh, name = running_mesh, "other-root"
    before = _ended(mesh, name)
    _roots(mesh, name, certificates.root("other").pem)
    sidecar = serve(mesh, _configured(mesh, name, _NEVER), name)
    eventually(lambda: identity_status(sidecar).last_error, "the CA's answer is no better")
    told = identity_status(sidecar)
    assert (told.generation, told.key_id, told.health) == (0, b"", "waiting")
    assert "it ends below 'CN=" in told.last_error
    (refused,) = sidecar.logged("saved certificate not used")
    assert refused["key_id"] == before.key_id.hex()
    assert "does not lead to a trusted root" in refused["reason"]
    _roots(mesh, name, mesh.root_file.read_bytes())
    after = wait_for_generation(sidecar, 1)
    assert after.authority == "local"
    assert after.key_id != before.key_id


@pytest.mark.parametrize("mode", [0o750, 0o701])
def test_a_directory_that_others_may_use_stops_the_start(mesh: Mesh, mode: int) -> None:
    state = mesh.directory / "web-state"
    state.mkdir()
    state.chmod(mode)
    process = mesh.serve("web", toml(_configured(mesh, "web", _SOON)))
    assert process.wait() == 64
    (line,) = [text for text in process.log_text().splitlines() if text.startswith("meshkey: ")]
    assert line == (f"meshkey: certificate store {state} is open to others; chmod 0700 {state}")
    assert "Traceback" not in process.log_text()
