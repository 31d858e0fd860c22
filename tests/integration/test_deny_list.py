"""A deny list that is signed in a token and followed by a real sidecar with two identities."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar._proto.meshkey.admin.v1 import admin_pb2
from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.app.clock import wall
from tests.fixtures.audit import records
from tests.fixtures.config_maps import ConfigMap
from tests.fixtures.configurations import sections, serve, watching
from tests.fixtures.deny_lists import PEER, ListSigner, deny_list
from tests.fixtures.mesh import Mesh, spiffe_id, status
from tests.fixtures.named import named_channel
from tests.fixtures.process import MeshkeyProcess, run_cli
from tests.fixtures.requests import sign_request
from tests.fixtures.scraping import scrape
from tests.fixtures.toml import toml
from tests.fixtures.waiting import eventually, soon

_HOUR = timedelta(hours=1)
Sign = Callable[..., bytes]


@pytest.fixture
def config_map(mesh: Mesh) -> ConfigMap:
    """Where the list is; nothing yet."""
    return ConfigMap(mesh.directory / "deny", "list.jws")


@pytest.fixture
def signer() -> ListSigner:
    return ListSigner()


@pytest.fixture
def edge(mesh: Mesh, config_map: ConfigMap, signer: ListSigner) -> dict[str, Any]:
    """A workload and a gateway's credential; what the tests start is of this configuration."""
    mesh.start_issuer()
    keys = mesh.directory / "keys.pem"
    keys.write_bytes(signer.pem)
    shop = {
        "spiffe_id": spiffe_id("shop"),
        "trust_bundle": mesh.root_file,
        "socket": mesh.socket("shop"),
    }
    return sections(
        mesh,
        gateway={"shop": shop},
        deny_list={"file": config_map.file, "key": keys, "state": mesh.directory / "state"},
        audit={"directory": mesh.directory / "audit"},
        metrics={"socket": mesh.directory / "numbers"},
    )


def _start(mesh: Mesh, configured: dict[str, Any], **changed: str) -> MeshkeyProcess:
    section = {**configured["deny_list"], **changed}
    sidecar = serve(mesh, {**configured, "deny_list": section})
    eventually(lambda: all(each.generation for each in status(sidecar).identities))
    return sidecar


def _list(signer: ListSigner, sequence: int, *peers: str, lasts: timedelta = _HOUR) -> bytes:
    issued_at = wall().replace(microsecond=0) - _HOUR
    parsed = [type(PEER).parse(peer) for peer in peers]
    return signer.sign(deny_list(sequence, *parsed, issued_at=issued_at, lasts=lasts + _HOUR))


def _told(sidecar: MeshkeyProcess) -> admin_pb2.DenyListStatus:
    return status(sidecar).deny_list


def _taken(sidecar: MeshkeyProcess, sequence: int) -> None:
    eventually(lambda: _told(sidecar).sequence == sequence, f"deny list {sequence}")


async def test_a_list_from_the_token_reaches_every_identity_without_a_new_certificate(
    mesh: Mesh, edge: dict[str, Any], config_map: ConfigMap
) -> None:
    sidecar = _start(mesh, edge)
    assert _told(sidecar).overdue == "there is no deny list yet"
    assert sidecar.logged("deny list overdue")
    # The operator's token is another one, and its key never leaves it.
    operator = mesh.directory / "operator.toml"
    operator.write_text(mesh.common_settings("operator"), encoding="utf-8")

    def command(*arguments: str) -> tuple[str, str]:
        done = run_cli(
            "deny-list",
            *arguments,
            "--config",
            str(operator),
            environment=mesh.store("operator").environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    pem, said = command("make-key", "--algorithm", "ec-p384")
    key_id = said.removeprefix("made key ").strip()
    edge["deny_list"]["key"].write_text(pem, encoding="utf-8")
    times = ("--sequence", "7", "--next-update", "1h")
    signed, _ = command("sign", "--key-id", key_id, *times, str(PEER))
    async with (
        watching(mesh.socket("web")) as (web, before),
        watching(mesh.socket("shop"), "shop", named_channel) as (shop, shops),
    ):
        assert not before.HasField("denied_peers")
        config_map.swap(signed.encode())
        after, shops_after = await web.update(), await shop.update()
        denied = pb.DeniedPeers(sequence=7, spiffe_ids=[str(PEER)])
        assert after.denied_peers == shops_after.denied_peers == denied
        for old, new in ((before, after), (shops, shops_after)):
            assert (new.key_id, new.certificate_chain) == (old.key_id, old.certificate_chain)
            assert new.generation == old.generation + 1
        await web.acknowledge(after)
        answer = await web.stub.Sign(sign_request(after.key_id))
        assert answer.WhichOneof("result") == "signature"
        # And a later certificate has it too.
        assert sidecar.cli("rotate").returncode == 0
        assert (await web.update()).denied_peers == denied
    file = mesh.directory / "printed"
    file.write_text(signed, encoding="utf-8")
    key = str(edge["deny_list"]["key"])
    shown = json.loads(run_cli("deny-list", "show", str(file), "--key", key, "--json").stdout)
    assert (shown["sequence"], shown["spiffe_ids"]) == (7, [str(PEER)])
    shown_status = sidecar.cli("status").stdout
    assert "deny list    sequence 7, 1 SPIFFE ID, next update by " in shown_status
    assert sidecar.cli("health").stdout == "healthy\n"
    assert sidecar.stop() == 0, sidecar.log_text()
    (record,) = [r for r in records(mesh.directory / "audit") if r["event"] == "deny list taken"]
    assert (record["sequence"], record["entries"]) == (7, 1)
    assert record["sha256"] == shown["sha256"]


async def test_what_is_not_newer_is_refused_also_after_a_restart(
    mesh: Mesh, edge: dict[str, Any], config_map: ConfigMap, signer: ListSigner
) -> None:
    config_map.swap(_list(signer, 7, str(PEER)))
    sidecar = _start(mesh, edge)
    config_map.swap(_list(signer, 6))
    eventually(lambda: _told(sidecar).refused == 1, "the lower one is refused")
    config_map.swap(_list(signer, 7))
    eventually(lambda: _told(sidecar).refused == 2, "the other one of the same is refused")
    assert _told(sidecar).sequence == 7
    numbers = scrape(mesh.directory / "numbers")
    assert numbers.value("meshkey_deny_list_refused_total") == 2
    assert numbers.value("meshkey_deny_list_sequence") == 7
    sidecar.kill()
    again = _start(mesh, edge)
    assert (_told(again).sequence, _told(again).entries, _told(again).refused) == (7, 1, 1)
    assert "another deny list of sequence 7 was taken already" in _told(again).error
    async with watching(mesh.socket("web")) as (watcher, update):
        assert update.denied_peers.spiffe_ids == [str(PEER)]
        config_map.swap(_list(signer, 8))
        assert (await watcher.update()).denied_peers == pb.DeniedPeers(sequence=8)
    assert again.stop() == 0, again.log_text()
    events = [r["event"] for r in records(mesh.directory / "audit")]
    assert (events.count("deny list taken"), events.count("deny list refused")) == (2, 3)


async def test_refuse_signs_nothing_while_the_list_is_stale_and_follows_none_away(
    mesh: Mesh, edge: dict[str, Any], config_map: ConfigMap, signer: ListSigner
) -> None:
    sidecar = _start(mesh, edge, stale="refuse")
    async with watching(mesh.socket("web")) as (watcher, update):
        request = sign_request(update.key_id)
        answer = await watcher.stub.Sign(request)
        assert answer.retry.detail.startswith("there is no deny list yet, and nothing is signed")
        unwell = sidecar.cli("health")
        assert unwell.returncode == 69
        assert unwell.stdout.startswith("there is no deny list yet, and nothing is signed")
        config_map.swap(_list(signer, 1, str(PEER)))
        assert (await watcher.update()).denied_peers.sequence == 1
        assert (await watcher.stub.Sign(request)).signature
        # One that is overdue when it comes is newer all the same.
        config_map.swap(_list(signer, 2, str(PEER), lasts=timedelta(seconds=-1)))
        assert (await watcher.update()).denied_peers.sequence == 2
        answer = await watcher.stub.Sign(request)
        assert answer.retry.detail.startswith("the deny list is stale since ")
        assert scrape(mesh.directory / "numbers").value("meshkey_deny_list_stale") == 1
        config_map.swap(_list(signer, 3, str(PEER)))
        assert (await watcher.update()).denied_peers.sequence == 3
        assert (await watcher.stub.Sign(request)).signature
    assert sidecar.cli("health").stdout == "healthy\n"


async def test_a_gateway_that_is_on_the_list_gets_no_signature_and_the_workload_does(
    mesh: Mesh, edge: dict[str, Any], config_map: ConfigMap, signer: ListSigner
) -> None:
    config_map.swap(_list(signer, 1, spiffe_id("shop")))
    sidecar = _start(mesh, edge)
    async with (
        watching(mesh.socket("web")) as (web, web_update),
        watching(mesh.socket("shop"), "shop", named_channel) as (shop, shop_update),
    ):
        assert (await web.stub.Sign(sign_request(web_update.key_id))).signature
        request = sign_request(shop_update.key_id)
        answer = await shop.stub.Sign(request)
        assert answer.refusal.reason == pb.Refusal.REASON_LEASE
        assert "is on the deny list of sequence 1" in answer.refusal.detail
        health = sidecar.cli("health")
        assert health.returncode == 69
        assert health.stdout == ("identity 'shop': on the deny list, nothing is signed for it\n")
        (alarm,) = sidecar.logged("identity is on the deny list, nothing is signed")
        assert (alarm["identity"], alarm["level"]) == ("shop", "critical")
        config_map.swap(_list(signer, 2))
        await shop.update()
        assert (await shop.stub.Sign(request)).signature
    refused = [r for r in records(mesh.directory / "audit") if r["event"] == "signature"]
    assert "refused LEASE" in {r["result"] for r in refused}


async def test_keys_are_rotated_without_a_restart(
    mesh: Mesh, edge: dict[str, Any], config_map: ConfigMap, signer: ListSigner
) -> None:
    config_map.swap(_list(signer, 1))
    sidecar, new = _start(mesh, edge), ListSigner()
    config_map.swap(_list(new, 2, str(PEER)))
    await soon(lambda: "none of the keys has signed" in _told(sidecar).error)
    assert _told(sidecar).sequence == 1
    keys: Path = edge["deny_list"]["key"]
    both = keys.with_suffix(".new")
    both.write_bytes(signer.pem + new.pem)
    both.replace(keys)
    _taken(sidecar, 2)
    both.write_bytes(new.pem)
    both.replace(keys)
    config_map.swap(_list(signer, 3))
    await soon(lambda: "none of the keys has signed" in _told(sidecar).error)
    config_map.swap(_list(new, 3))
    _taken(sidecar, 3)
    assert sidecar.stop() == 0


def test_a_disk_that_is_full_keeps_the_list_that_counts(
    mesh: Mesh, edge: dict[str, Any], config_map: ConfigMap, signer: ListSigner
) -> None:
    config_map.swap(_list(signer, 1))
    sidecar = _start(mesh, edge)
    state: Path = edge["deny_list"]["state"]
    # A directory in the way of the new file is as good as no room.
    blocked = state / ".deny-list.kept.new"
    blocked.mkdir()
    config_map.swap(_list(signer, 2, str(PEER)))
    eventually(lambda: "until its sequence can be kept" in _told(sidecar).error)
    assert _told(sidecar).sequence == 1
    blocked.rmdir()
    _taken(sidecar, 2)
    assert _told(sidecar).error == ""


@pytest.mark.parametrize(
    ("damage", "code", "told"),
    [
        ("kept", 69, "is torn or changed, and with it the protection against older deny lists"),
        ("state", 64, "is open to others; chmod 0700"),
        ("keys", 64, "no public key, PEM, is in there"),
    ],
)
def test_what_cannot_be_trusted_ends_the_start(
    mesh: Mesh,
    edge: dict[str, Any],
    config_map: ConfigMap,
    signer: ListSigner,
    damage: str,
    code: int,
    told: str,
) -> None:
    config_map.swap(_list(signer, 7))
    sidecar = _start(mesh, edge)
    assert sidecar.stop() == 0
    section = edge["deny_list"]
    if damage == "kept":
        kept = section["state"] / "deny-list.kept"
        kept.write_bytes(kept.read_bytes().replace(b'"sequence":7', b'"sequence":6'))
    elif damage == "state":
        section["state"].chmod(0o755)
    else:
        section["key"].write_bytes(b"")
    config_map.swap(_list(signer, 6))
    again = mesh.serve("web", toml(edge))
    assert again.wait() == code
    assert told in again.log_text()
