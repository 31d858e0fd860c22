"""Status and health of a real process, over the sockets that they are served on."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from sidecar._proto.meshkey.admin.v1.admin_pb2 import SubscriberStatus
from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar._proto.third_party.envoy_sds_pb2 import DiscoveryRequest, DiscoveryResponse
from sidecar.admin.client import AdminClient, CommandFailed
from sidecar.rpc.sockets import unix_channel
from tests.fixtures import certificates
from tests.fixtures.discovery import SERVICE, sotw_request
from tests.fixtures.mesh import TRUST_DOMAIN, Mesh, identity_status, spiffe_id, wait_for_generation
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.waiting import eventually, soon


def _status(process: MeshkeyProcess) -> dict[str, Any]:
    shown = process.cli("status", "--json")
    assert shown.returncode == 0, shown.stderr
    status: dict[str, Any] = json.loads(shown.stdout)
    return status


def _identity(process: MeshkeyProcess) -> dict[str, Any]:
    (identity,) = _status(process)["identities"]
    return dict(identity)


def _health(process: MeshkeyProcess, *options: str) -> tuple[int, dict[str, Any]]:
    asked = process.cli("health", "--json", *options)
    assert asked.returncode in {0, 69}, asked.stderr
    return asked.returncode, json.loads(asked.stdout)


def test_a_sidecar_without_a_ca_is_alive_and_unwell_until_there_is_one(mesh: Mesh) -> None:
    mesh.root_file.write_bytes(certificates.root().pem)
    sidecar = mesh.serve("web", mesh.sidecar_settings())
    sidecar.wait_until_ready()
    eventually(lambda: identity_status(sidecar).last_error, "the first failure")
    code, health = _health(sidecar)
    assert (code, health["healthy"]) == (69, False)
    (problem,) = health["problems"]
    assert problem.startswith("identity 'default': no certificate yet: local CA: UNAVAILABLE")
    assert _health(sidecar, "--live")[0] == 0
    waiting = _identity(sidecar)
    assert (waiting["health"], waiting["key_id"], waiting["not_after"]) == ("waiting", "", "")
    # Not the same words: it may have tried once more.
    assert "UNAVAILABLE" in waiting["last_error"]
    mesh.start_issuer()
    eventually(lambda: sidecar.cli("rotate").returncode == 0, "the CA is found")
    assert _health(sidecar) == (0, {"healthy": True, "problems": []})
    assert _identity(sidecar)["health"] == "valid"
    assert sidecar.stop() == 0
    assert sidecar.cli("health").returncode == sidecar.cli("health", "--live").returncode == 69


def test_a_status_shows_all_of_a_certificate(mesh: Mesh) -> None:
    mesh.start_issuer()
    sidecar = mesh.start_sidecar()
    status = identity_status(sidecar)
    shown = _identity(sidecar)
    assert shown["spiffe_id"] == spiffe_id("web")
    assert (shown["key_id"], shown["key_origin"]) == (status.key_id.hex(), "born")
    assert (shown["token"], shown["authority"]) == ("web", "local")
    assert shown["serial"] == status.serial
    assert shown["trust"] == [{"trust_domain": TRUST_DOMAIN, "roots": 1, "error": ""}]
    assert shown["not_before"] < shown["next_renewal"] < shown["not_after"]
    table = sidecar.cli("status").stdout
    for fact in (
        *("spiffe_id", "key_id", "serial", "not_before", "not_after", "next_renewal"),
        *("key_origin", "authority", "health"),
    ):
        assert shown[fact] in table.replace("\n             ", "")


async def test_a_status_shows_who_follows_and_what_they_have_acknowledged(mesh: Mesh) -> None:
    mesh.start_issuer()
    socket = mesh.directory / "sds"
    sidecar = mesh.serve("web", mesh.sidecar_settings() + f'[sds]\nsocket = "{socket}"\n')
    sidecar.wait_until_ready()
    wait_for_generation(sidecar, 1)
    async with mesh.channel("web") as channel, unix_channel(socket) as secrets:
        watch = signer_pb2_grpc.SignerStub(channel).WatchIdentity()
        await watch.write(pb.WatchRequest())
        assert (await watch.read()).generation == 1
        await watch.write(pb.WatchRequest(acked_generation=1))
        stream: Any = secrets.stream_stream(
            f"{SERVICE}/StreamSecrets",
            request_serializer=DiscoveryRequest.SerializeToString,
            response_deserializer=DiscoveryResponse.FromString,
        )()
        await stream.write(sotw_request("ROOTCA"))
        nonce = (await stream.read()).nonce
        await stream.write(sotw_request("ROOTCA", nonce=nonce, error="no \x1b[2J room"))
        # Asked over the socket: a command takes long, and the streams wait meanwhile.
        await soon(lambda: all(map(_has_answered, identity_status(sidecar).subscribers)))
        assert _followers(sidecar) == [
            ("module", "", 1, ""),
            ("sds", "ROOTCA", 0, "no ?[2J room"),
        ]
        assert _status(sidecar)["sds"] == {"streams": 1, "acknowledged": 0, "refused": 1}
        table = sidecar.cli("status").stdout
        assert "module: acknowledged generation 1" in table
        assert "sds ROOTCA: acknowledged nothing yet; refused: no ?[2J room" in table
        watch.cancel()
        stream.cancel()
        await soon(lambda: not identity_status(sidecar).subscribers, "they are gone")


def _has_answered(follower: SubscriberStatus) -> bool:
    return bool(follower.acked_generation or follower.error)


def _followers(process: MeshkeyProcess) -> list[tuple[str, str, int, str]]:
    return sorted(
        (each["kind"], each["resource"], each["acked_generation"], each["error"])
        for each in _identity(process)["subscribers"]
    )


@pytest.fixture
def read_only(mesh: Mesh) -> Path:
    return mesh.directory / "read-only"


def test_the_read_only_socket_answers_and_takes_no_commands(mesh: Mesh, read_only: Path) -> None:
    mesh.start_issuer()
    sidecar = mesh.start_sidecar(admin={"read_only": str(read_only)})
    assert stat.S_IMODE(read_only.stat().st_mode) == 0o660
    with AdminClient(read_only) as client:
        assert client.health() == []
        (identity,) = client.status().identities
        assert identity.generation == 1
        with pytest.raises(CommandFailed, match=r"takes no commands: use admin\.socket"):
            client.rotate("default")
    assert identity_status(sidecar).generation == 1
    # What asks uses it, and what commands does not: the other one is out of the way.
    commands = mesh.directory / "web-admin"
    commands.rename(commands.with_name("elsewhere"))
    assert _identity(sidecar)["generation"] == 1
    assert _health(sidecar)[0] == 0
    assert sidecar.cli("rotate").returncode == 69
    commands.with_name("elsewhere").rename(commands)
    assert sidecar.cli("rotate").returncode == 0
    assert sidecar.stop() == 0
    assert not read_only.exists()
