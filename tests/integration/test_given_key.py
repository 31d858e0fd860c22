"""`meshkey serve` with a key that somebody put on the token, on the real SoftHSM2."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from pkcs11 import Attribute

from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar.core.private_key import PrivateKey
from sidecar.core.schemes import KeyAlgorithm
from sidecar.core.token_selector import TokenSelector
from sidecar.token.base import KeyId
from sidecar.token.keypair import make_key_pair, templates
from sidecar.token.login import Login
from sidecar.token.pin_sources import PinFile
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import SOFTHSM2
from tests.conftest import MODULE
from tests.fixtures.mesh import Mesh, identity_status, wait_for_generation
from tests.fixtures.private_keys import some_key, write_key
from tests.fixtures.process import MeshkeyProcess, run_cli
from tests.fixtures.requests import sign_request, verify


@dataclass
class Gateway:
    """A workload with a token of its own, and the commands on it."""

    mesh: Mesh
    name: str = "web"

    def cli(self, *arguments: object) -> Any:
        config = self.mesh.directory / "cli.toml"
        config.write_text(self.mesh.common_settings(self.name), encoding="utf-8")
        environment = self.mesh.store(self.name).environment
        return run_cli(*map(str, arguments), "--config", str(config), environment=environment)

    def import_key(self, private_key: PrivateKey) -> str:
        file = write_key(self.mesh.directory / "key.pem", private_key)
        imported = self.cli("keys", "import", file, "--label", "gateway")
        assert imported.returncode == 0, imported.stderr
        file.unlink()
        return str(imported.stdout).strip()

    def keys(self) -> dict[str, str]:
        """Origins by key id."""
        listed = self.cli("keys", "list", "--json")
        assert listed.returncode == 0, listed.stderr
        return {key["key_id"]: key["origin"] for key in json.loads(listed.stdout)}

    def refused(self, **identity: str) -> tuple[int, str]:
        """The exit code and the last line of a start that fails."""
        process = self.mesh.serve(self.name, self.settings(**identity))
        return process.wait(), process.log_text().splitlines()[-1]

    def settings(self, **identity: str) -> str:
        return self.mesh.sidecar_settings(self.name, identity=identity)


@pytest.fixture
def gateway(mesh: Mesh) -> Gateway:
    return Gateway(mesh)


async def _require_signature(mesh: Mesh, key_id: str, private_key: PrivateKey) -> None:
    request = sign_request(bytes.fromhex(key_id))
    async with mesh.channel("web") as channel:
        answer = await signer_pb2_grpc.SignerStub(channel).Sign(request)
    verify(private_key.public_key(), request, answer)


def _start(gateway: Gateway, key_id: str) -> MeshkeyProcess:
    return gateway.mesh.start_sidecar("web", identity={"key_id": key_id, "allow_imported": "true"})


async def test_a_process_signs_with_an_imported_key_renews_with_it_and_leaves_it(
    gateway: Gateway,
) -> None:
    private_key = some_key()
    key_id = gateway.import_key(private_key)
    gateway.mesh.start_issuer()
    process = _start(gateway, key_id)
    first = identity_status(process)
    assert (first.key_id.hex(), first.key_origin) == (key_id, "imported")
    await _require_signature(gateway.mesh, key_id, private_key)
    assert process.cli("rotate").returncode == 0
    second = wait_for_generation(process, 2)
    assert (second.key_id.hex(), second.serial == first.serial) == (key_id, False)
    await _require_signature(gateway.mesh, key_id, private_key)
    (shown,) = json.loads(process.cli("status", "--json").stdout)["identities"]
    assert shown["key_origin"] == "imported"
    assert [line["key_origin"] for line in process.logged("certificate published")] == [
        "imported",
        "imported",
    ]
    assert process.stop() == 0
    assert gateway.keys() == {key_id: "imported"}
    # ... and so for the next process.
    again = _start(gateway, key_id)
    await _require_signature(gateway.mesh, key_id, private_key)
    assert again.stop() == 0


def test_a_key_that_is_made_is_born_and_goes_with_the_process(gateway: Gateway) -> None:
    gateway.mesh.start_issuer()
    process = gateway.mesh.start_sidecar("web")
    assert identity_status(process).key_origin == "born"
    assert set(gateway.keys().values()) == {"born"}
    process.stop()
    assert gateway.keys() == {}


def test_a_key_that_a_process_uses_is_not_destroyed_until_it_stops(gateway: Gateway) -> None:
    key_id = gateway.import_key(some_key())
    gateway.mesh.start_issuer()
    process = _start(gateway, key_id)
    refused = gateway.cli("keys", "destroy", "--yes", key_id)
    assert refused.returncode == 69
    assert "is in use by identity 'default'" in refused.stderr
    process.stop()
    assert gateway.cli("keys", "destroy", "--yes", key_id).returncode == 0
    assert gateway.keys() == {}


def test_an_imported_key_is_refused_unless_the_identity_says_so(gateway: Gateway) -> None:
    key_id = gateway.import_key(some_key())
    for identity in ({}, {"allow_imported": "false"}):
        code, line = gateway.refused(key_id=key_id, **identity)
        assert code == 64
        assert f"key {key_id} (identity.key_id) was imported" in line
        assert "set identity.allow_imported" in line
    assert gateway.keys() == {key_id: "imported"}


def test_a_key_that_is_not_there_stops_the_start(gateway: Gateway) -> None:
    code, line = gateway.refused(key_id="0a1f", allow_imported="true")
    assert code == 66
    assert "no key 0a1f (identity.key_id) on token 'web'; list its keys" in line


def test_a_key_that_could_leave_the_token_is_never_used(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id = _make_exposed_key(gateway, monkeypatch)
    assert gateway.keys() == {key_id: "exposed"}
    for allowed in ("true", "false"):
        code, line = gateway.refused(key_id=key_id, allow_imported=allowed)
        assert code == 69
        assert f"key {key_id} (identity.key_id) could leave token 'web'" in line
    exported = gateway.cli("keys", "export-csr", key_id, "--dns", "a.example")
    assert exported.returncode == 69
    assert not exported.stdout


def _make_exposed_key(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> str:
    store = gateway.mesh.store("web")
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    login = Login(PinFile(store.directory / "web.pin"))
    token = Pkcs11Token.open(MODULE, TokenSelector(label="web"), login, SOFTHSM2)
    public, private = templates(SOFTHSM2)
    wished = (public, {**private, Attribute.EXTRACTABLE: True})
    key_id = KeyId(b"exposed")
    token._sessions.use(
        "making a key that can leave",
        lambda state: make_key_pair(
            state.session, KeyAlgorithm.EC_P256, wished, key_id=key_id, label="exposed"
        ),
    )
    token.close()
    return str(key_id)
