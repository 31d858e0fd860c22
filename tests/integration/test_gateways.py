"""A sidecar with a workload's identity and a gateway's credential: each has a key and a socket."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from google.protobuf.wrappers_pb2 import BytesValue

from sidecar._proto.meshkey.admin.v1 import admin_pb2
from sidecar._proto.meshkey.sds.v1 import private_key_pb2
from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar._proto.third_party import envoy_sds_pb2
from sidecar.core.certificate_verify import Side
from sidecar.core.public_key import PublicKey
from sidecar.rpc.sockets import unix_channel
from tests.fixtures.configurations import sections, serve, watching
from tests.fixtures.discovery import SecretsCall
from tests.fixtures.mesh import Mesh, spiffe_id, status
from tests.fixtures.named import named_channel
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.requests import sign_request, verify
from tests.fixtures.rules import this_user
from tests.fixtures.toml import toml
from tests.fixtures.waiting import eventually

_BOTH = ["default", "shop"]


@pytest.fixture(scope="module")
def edge(running_mesh: Mesh) -> MeshkeyProcess:
    """It is left as it was, but for generations."""
    mesh = running_mesh
    shop = {
        "spiffe_id": spiffe_id("shop"),
        "trust_bundle": mesh.root_file,
        "socket": mesh.socket("shop"),
    }
    sds = {"socket": mesh.socket("sds")}
    sidecar = serve(mesh, sections(mesh, "edge", gateway={"shop": shop}, sds=sds), "edge")
    eventually(lambda: all(each.generation for each in status(sidecar).identities))
    return sidecar


@pytest.fixture
def workload(running_mesh: Mesh) -> Path:
    return running_mesh.socket("edge")


@pytest.fixture
def shop(running_mesh: Mesh) -> Path:
    return running_mesh.socket("shop")


def _identities(sidecar: MeshkeyProcess) -> dict[str, admin_pb2.IdentityStatus]:
    return {each.name: each for each in status(sidecar).identities}


def test_status_shows_both_each_with_a_key_of_its_own(edge: MeshkeyProcess) -> None:
    told = _identities(edge)
    assert [*told] == _BOTH
    assert told["default"].spiffe_id == spiffe_id("edge")
    assert told["shop"].spiffe_id == spiffe_id("shop")
    assert told["default"].key_id != told["shop"].key_id
    assert told["default"].serial != told["shop"].serial
    assert {each.authority for each in told.values()} == {"local"}
    assert {each.last_error for each in told.values()} == {""}


async def test_the_gateways_key_signs_on_its_socket_and_as_a_server_only(
    edge: MeshkeyProcess, shop: Path
) -> None:
    async with watching(shop, "shop", named_channel) as (watcher, update):
        assert update.spiffe_id == spiffe_id("shop")
        assert update.key_id == _identities(edge)["shop"].key_id
        public_key = x509.load_der_x509_certificate(update.certificate_chain[0]).public_key()
        assert isinstance(public_key, PublicKey)
        request = sign_request(update.key_id)
        verify(public_key, request, await watcher.stub.Sign(request))
        refused = await watcher.stub.Sign(sign_request(update.key_id, side=Side.CLIENT))
        assert refused.refusal.reason == pb.Refusal.REASON_PURPOSE
        assert refused.refusal.detail == "this key does not sign as a TLS client"


@pytest.mark.parametrize("asked", _BOTH)
async def test_a_key_of_the_other_socket_is_as_unknown_as_any(
    edge: MeshkeyProcess, workload: Path, shop: Path, asked: str
) -> None:
    other = workload if asked == "shop" else shop
    key_id = _identities(edge)[asked].key_id
    async with (named_channel if other == shop else unix_channel)(other) as channel:
        stub = signer_pb2_grpc.SignerStub(channel)
        for side in Side:
            told = await stub.Sign(sign_request(key_id, side=side))
            never = await stub.Sign(sign_request(bytes(len(key_id)), side=side))
            assert told.refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY
            assert told == never
    own, opened = (workload, unix_channel) if asked == "default" else (shop, named_channel)
    async with watching(own, asked, opened) as (watcher, _):
        answer = await watcher.stub.Sign(sign_request(key_id))
        assert answer.WhichOneof("result") == "signature"


@pytest.mark.parametrize(
    ("socket", "name"), [("edge", "shop"), ("shop", "default"), ("shop", ""), ("shop", "nobody")]
)
async def test_an_identity_of_the_other_socket_is_unknown(
    running_mesh: Mesh, edge: MeshkeyProcess, socket: str, name: str
) -> None:
    opened = named_channel if socket == "shop" else unix_channel
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async with watching(running_mesh.socket(socket), name, opened):
            pass
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert refused.value.details() == f"no identity {name!r} here; see: meshkey status"


async def test_a_rotation_of_the_gateway_is_of_the_gateway_alone(
    edge: MeshkeyProcess, workload: Path, shop: Path
) -> None:
    before = _identities(edge)
    async with watching(shop, "shop", named_channel) as (watcher, update):
        rotated = edge.cli("rotate", "shop")
        assert rotated.returncode == 0, rotated.stderr
        assert rotated.stdout == f"shop: generation {update.generation + 1} is published\n"
        newest = await watcher.update()
        assert newest.key_id != update.key_id
        answer = await watcher.stub.Sign(sign_request(newest.key_id))
        assert answer.WhichOneof("result") == "signature"
    after = _identities(edge)
    assert after["shop"].key_id == newest.key_id
    assert after["default"] == before["default"]


async def test_the_gateways_secrets_have_its_name(edge: MeshkeyProcess, running_mesh: Mesh) -> None:
    told = _identities(edge)
    async with unix_channel(running_mesh.socket("sds")) as channel:
        stream = SecretsCall(channel)
        await stream.ask("sds://shop", "sds://shop-cacert", "default", node="edge")
        secrets: dict[str, envoy_sds_pb2.Secret] = {}
        while len(secrets) < 3:
            for resource in (await stream.answer()).resources:
                secret = envoy_sds_pb2.Secret.FromString(resource.value)
                secrets[secret.name] = secret
        stream.cancel()
    for name, identity in (("sds://shop", told["shop"]), ("default", told["default"])):
        certificate = secrets[name].tls_certificate
        leaf = x509.load_pem_x509_certificate(certificate.certificate_chain.inline_bytes)
        assert f"{leaf.serial_number:x}" == identity.serial
        pointer = BytesValue.FromString(certificate.private_key_provider.typed_config.value)
        key = private_key_pb2.PrivateKey.FromString(pointer.value)
        assert key.key_id == identity.key_id
    roots = secrets["sds://shop-cacert"].validation_context.trusted_ca.inline_bytes
    assert x509.load_pem_x509_certificates(roots) == x509.load_pem_x509_certificates(
        running_mesh.root_file.read_bytes()
    )


async def test_a_gateway_needs_no_identity_beside_it(running_mesh: Mesh) -> None:
    mesh = running_mesh
    shop = {"spiffe_id": spiffe_id("alone"), "trust_bundle": mesh.root_file}
    configured = sections(mesh, "alone", gateway={"shop": shop})
    del configured["identity"]
    configured["caller"] = this_user("shop")
    sidecar = serve(mesh, configured, "alone")
    eventually(lambda: _identities(sidecar)["shop"].generation == 1)
    # Without a socket of its own it is served on the signer's.
    async with watching(mesh.socket("alone"), "shop") as (_, update):
        assert update.spiffe_id == spiffe_id("alone")
    unknown = sidecar.cli("rotate")
    assert unknown.returncode == 69
    assert "no identity 'default' here; see: meshkey status" in unknown.stderr
    assert sidecar.cli("health").stdout == "healthy\n"
    assert sidecar.stop() == 0, sidecar.log_text()


@pytest.mark.parametrize("missing", ["ca", "signer"])
def test_what_a_gateway_needs_is_told_with_its_name(running_mesh: Mesh, missing: str) -> None:
    mesh = running_mesh
    shop = {"spiffe_id": spiffe_id("lacking"), "trust_bundle": mesh.root_file}
    configured = sections(mesh, "lacking", gateway={"shop": shop})
    configured["caller"] = this_user("shop")
    del configured["identity"], configured[missing]
    process = mesh.serve("lacking", toml(configured))
    assert process.wait() == 64
    assert process.log_text() == ("meshkey: [gateway.shop] needs the sections [ca] and [signer]\n")
