"""Identities and keys of real processes on SoftHSM2 that end on command, and stay ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar._proto.third_party import envoy_sds_pb2
from sidecar.admin.client import CommandFailed
from sidecar.audit.files import files_in, lines_of
from tests.fixtures.configurations import sections, serve, watching
from tests.fixtures.discovery import SecretsCall, delta_request, secrets_of
from tests.fixtures.mesh import Mesh, identity_status, spiffe_id, wait_for_generation
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.requests import sign_request
from tests.fixtures.streams import SignCall
from tests.fixtures.waiting import eventually, soon

_IN_FLIGHT = 32


def _configured(mesh: Mesh, name: str, **others: Any) -> dict[str, Any]:
    identity = {
        "spiffe_id": spiffe_id(name),
        "trust_bundle": mesh.root_file,
        "state": mesh.directory / f"{name}-state",
        **others.pop("identity", {}),
    }
    return sections(mesh, name, identity=identity, **others)


def _started(mesh: Mesh, name: str, **others: Any) -> MeshkeyProcess:
    return serve(mesh, _configured(mesh, name, **others), name)


def keys_on_token(process: MeshkeyProcess) -> set[str]:
    """As a session of its own sees them."""
    listed = process.cli("keys", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    return {key["key_id"] for key in json.loads(listed.stdout)}


def _live(process: MeshkeyProcess) -> dict[str, str]:
    listed = process.cli("keys", "live", "--json")
    assert listed.returncode == 0, listed.stderr
    return {key["key_id"]: key["state"] for key in json.loads(listed.stdout)}


def _done(process: MeshkeyProcess, *command: str) -> str:
    ran = process.cli(*command)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def _deprovisioned(process: MeshkeyProcess) -> bool:
    return identity_status(process).health == "deprovisioned"


class _Asking:
    """A caller with many requests in flight, who never stops asking."""

    def __init__(self, call: SignCall, key_id: bytes) -> None:
        self._call = call
        self._key_id = key_id
        self.answers: list[pb.SignResponse] = []
        self._room = asyncio.Semaphore(_IN_FLIGHT)
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]

    async def _write(self) -> None:
        for number in range(1, 1_000_000):
            await self._room.acquire()
            await self._call.write(sign_request(self._key_id, number))

    async def _read(self) -> None:
        while True:
            self.answers.append(await self._call.read())
            self._room.release()

    async def results(self, number: int) -> list[str]:
        """What so many answers from here on are."""
        before = len(self.answers)
        await soon(lambda: len(self.answers) >= before + number)
        return [str(answer.WhichOneof("result")) for answer in self.answers[before:]]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._call.cancel()


async def test_running_streams_are_signed_nothing_more_and_their_watchers_are_told(
    running_mesh: Mesh,
) -> None:
    mesh, name = running_mesh, "streams"
    sidecar = _started(mesh, name)
    before = await asyncio.to_thread(wait_for_generation, sidecar, 1)
    async with mesh.channel(name) as channel, watching(mesh.socket(name)) as (watcher, update):
        asking = _Asking(SignCall(channel), update.key_id)
        assert set(await asking.results(100)) == {"signature"}
        said = await asyncio.to_thread(_done, sidecar, "deprovision", "--yes")
        # Answers that were on their way when the command returned have arrived by now.
        await asking.results(100)
        assert set(await asking.results(100)) == {"refusal"}
        withdrawn = await watcher.update()
        assert withdrawn == pb.IdentityUpdate(generation=2, withdrawn=True)
        asking.stop()
        async with watching(mesh.socket(name)) as (_, late):
            assert late == withdrawn
    assert f"destroyed: key {before.key_id.hex()}" in said
    assert f"serial {before.serial} of issuer " in said
    assert f"{name}-state/default.deprovisioned" in said
    assert keys_on_token(sidecar) == set()
    assert not (mesh.directory / f"{name}-state" / "default.json").exists()
    assert sidecar.cli("health").returncode == 0
    rotated = sidecar.cli("rotate")
    assert (rotated.returncode, "meshkey reinstate default" in rotated.stderr) == (69, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_no_restart_brings_it_back_and_reinstating_does(
    running_mesh: Mesh, number: signal.Signals
) -> None:
    mesh, name = running_mesh, f"back-{number.name.lower()}"
    sidecar = _started(mesh, name)
    before = await asyncio.to_thread(wait_for_generation, sidecar, 1)
    _done(sidecar, "deprovision", "default", "--yes")
    sidecar.stop(number)
    again = _started(mesh, name)
    assert _deprovisioned(again)
    async with watching(mesh.socket(name)) as (watcher, update):
        assert update == pb.IdentityUpdate(generation=1, withdrawn=True)
        answer = await watcher.stub.Sign(sign_request(before.key_id))
        assert answer.refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY
        assert keys_on_token(again) == set()
        assert "serial " + before.serial in _done(again, "deprovision", "--yes")
        with again.admin() as client, pytest.raises(CommandFailed, match="was deprovisioned"):
            client.rotate("default")
        await asyncio.to_thread(_done, again, "reinstate")
        alive = await watcher.update()
        assert not alive.withdrawn
        assert alive.key_id != before.key_id
        assert (await watcher.stub.Sign(sign_request(alive.key_id))).HasField("signature")
    assert keys_on_token(again) == {alive.key_id.hex()}
    refused = again.cli("reinstate")
    assert (refused.returncode, "is not deprovisioned" in refused.stderr) == (69, True)


async def test_without_state_the_command_says_what_a_restart_does(running_mesh: Mesh) -> None:
    mesh, name = running_mesh, "forgetful"
    sidecar = serve(mesh, sections(mesh, name), name)
    wait_for_generation(sidecar, 1)
    assert "so a restart brings it back" in _done(sidecar, "deprovision", "--yes")
    assert keys_on_token(sidecar) == set()
    sidecar.stop()
    wait_for_generation(serve(mesh, sections(mesh, name), name), 1)


async def test_the_key_in_use_is_replaced_and_its_connections_are_named_after_a_restart_too(
    running_mesh: Mesh,
) -> None:
    mesh, name = running_mesh, "revoked"
    sidecar = _started(mesh, name)
    async with watching(mesh.socket(name)) as (watcher, first):
        said = await asyncio.to_thread(_done, sidecar, "revoke", first.key_id.hex())
        told = await watcher.update()
        assert (told.generation, list(told.revoked_key_ids)) == (2, [first.key_id])
        second = await watcher.update()
        assert (second.key_id != first.key_id, list(second.revoked_key_ids)) == (
            True,
            [first.key_id],
        )
        refused = await watcher.stub.Sign(sign_request(first.key_id))
        assert refused.refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY
        assert (await watcher.stub.Sign(sign_request(second.key_id))).HasField("signature")
    assert f"destroyed: key {first.key_id.hex()}" in said
    assert keys_on_token(sidecar) == {second.key_id.hex()}
    assert _live(sidecar) == {second.key_id.hex(): "current", first.key_id.hex(): "revoked"}
    unknown = sidecar.cli("revoke", "00ff")
    assert (unknown.returncode, unknown.stderr) == (
        66,
        "meshkey: no key 00ff in this process; list those that sign with: meshkey keys live\n",
    )
    sidecar.stop(signal.SIGKILL)
    again = _started(mesh, name)
    wait_for_generation(again, 1)
    async with watching(mesh.socket(name)) as (_, update):
        assert list(update.revoked_key_ids) == [first.key_id]
        assert update.key_id == second.key_id


async def test_a_key_that_is_being_retired_is_revoked_while_the_one_in_use_goes_on(
    running_mesh: Mesh,
) -> None:
    mesh, name = running_mesh, "retiring"
    sidecar = _started(mesh, name)
    async with watching(mesh.socket(name)) as (watcher, first):
        await asyncio.to_thread(_done, sidecar, "rotate")
        second = await watcher.update()
        # Not acknowledged: both sign.
        assert _live(sidecar) == {second.key_id.hex(): "current", first.key_id.hex(): "retiring"}
        await asyncio.to_thread(_done, sidecar, "revoke", first.key_id.hex())
        third = await watcher.update()
        assert (third.key_id, list(third.revoked_key_ids)) == (second.key_id, [first.key_id])
    assert keys_on_token(sidecar) == {second.key_id.hex()}


async def test_a_given_key_is_refused_for_ever_and_left_on_the_token(mesh: Mesh) -> None:
    mesh.start_issuer()
    maker = _started(mesh, "web")
    key_id = (await asyncio.to_thread(wait_for_generation, maker, 1)).key_id.hex()
    eventually((mesh.directory / "web-state" / "default.json").exists)
    maker.stop()
    assert keys_on_token(maker) == {key_id}
    sidecar = _started(mesh, "web", identity={"key_id": key_id})
    assert wait_for_generation(sidecar, 1).key_id.hex() == key_id
    said = _done(sidecar, "revoke", key_id)
    assert f"Remove it with: meshkey keys destroy {key_id}" in said
    sidecar.stop()
    again = _started(mesh, "web", identity={"key_id": key_id})
    eventually(lambda: "was revoked" in identity_status(again).last_error)
    (problem,) = json.loads(again.cli("health", "--json").stdout)["problems"]
    assert f"key {key_id} was revoked" in problem
    async with mesh.channel("web") as channel:
        request = sign_request(bytes.fromhex(key_id))
        answer = await signer_pb2_grpc.SignerStub(channel).Sign(request)
    assert answer.refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY
    assert keys_on_token(again) == {key_id}
    # What the command says to do can be done.
    assert again.cli("keys", "destroy", "--yes", key_id).returncode == 0
    assert keys_on_token(again) == set()


async def test_rotations_and_an_end_at_the_same_time_leave_nothing(running_mesh: Mesh) -> None:
    mesh, name = running_mesh, "at-once"
    sidecar = _started(mesh, name)
    wait_for_generation(sidecar, 1)
    commands = [["rotate"], ["rotate"], ["deprovision", "--yes"], ["rotate"]]
    ran = await asyncio.gather(*(asyncio.to_thread(sidecar.cli, *each) for each in commands))
    assert ran[2].returncode == 0, ran[2].stderr
    assert _deprovisioned(sidecar)
    assert keys_on_token(sidecar) == set()
    assert set(_live(sidecar).values()) == set()


async def test_clients_of_sds_see_their_secrets_go_and_come_back(running_mesh: Mesh) -> None:
    mesh, name = running_mesh, "sds-ends"
    sidecar = _started(mesh, name, sds={"socket": mesh.socket("sds-ends-sds")})
    await asyncio.to_thread(wait_for_generation, sidecar, 1)
    async with mesh.channel("sds-ends-sds") as channel:
        delta, sotw = SecretsCall(channel, "DeltaSecrets"), SecretsCall(channel)
        await delta.write(delta_request("default").SerializeToString())
        await sotw.ask("default")
        assert secrets_of(await _delta(delta)) == ["default"]
        assert secrets_of(await sotw.answer()) == ["default"]
        await asyncio.to_thread(_done, sidecar, "deprovision", "--yes")
        assert list((await _delta(delta)).removed_resources) == ["default"]
        assert not (await sotw.answer()).resources
        await asyncio.to_thread(_done, sidecar, "reinstate")
        assert secrets_of(await _delta(delta)) == ["default"]
        assert secrets_of(await sotw.answer()) == ["default"]
        delta.cancel()
        sotw.cancel()


def test_the_audit_log_has_each_end_and_each_return(running_mesh: Mesh) -> None:
    mesh, name = running_mesh, "recorded"
    directory = mesh.directory / "recorded-audit"
    sidecar = _started(mesh, name, audit={"directory": directory})
    first = wait_for_generation(sidecar, 1)
    _done(sidecar, "revoke", first.key_id.hex())
    eventually(lambda: identity_status(sidecar).key_id not in {b"", first.key_id})
    second = identity_status(sidecar)
    _done(sidecar, "deprovision", "--yes")
    _done(sidecar, "reinstate")
    _done(sidecar, "reload")
    sidecar.stop()
    records = [json.loads(line.raw) for file in files_in(directory) for line in lines_of(file)]
    by_event = {record["event"]: record for record in records}
    assert by_event["key revoked"]["key_id"] == first.key_id.hex()
    (certificate,) = by_event["key revoked"]["certificates"]
    assert certificate["serial"] == first.serial
    assert by_event["identity deprovisioned"]["key_ids"] == [second.key_id.hex()]
    assert by_event["identity reinstated"]["identity"] == "default"
    start, reloaded = by_event["start"], by_event["configuration reloaded"]
    assert reloaded["configuration_sha256"] == start["configuration_sha256"]
    given = [record for record in records if record["event"] == "command"]
    assert [record["command"] for record in given] == [
        *("revoke", "deprovision", "reinstate", "reload")
    ]
    assert given[0]["key_id"] == first.key_id.hex()
    assert given[1]["identity"] == given[2]["identity"] == "default"
    python = sha256(Path(sys.executable).read_bytes()).hexdigest()
    for record in given:
        assert record["caller"]["uid"] == os.geteuid()
        assert record["caller"]["pid"] not in {None, os.getpid(), start["pid"]}
        assert record["caller"]["executable_sha256"] == python
    order = [record["event"] for record in records]
    for end in ("key revoked", "identity deprovisioned"):
        assert "key destroyed" in order[order.index(end) :]


@pytest.mark.parametrize("how", ["command", "signal"])
def test_a_configuration_is_read_again(running_mesh: Mesh, how: str) -> None:
    mesh, name = running_mesh, f"reload-{how}"
    sidecar = _started(mesh, name)
    text = sidecar.config.read_text(encoding="utf-8")
    sidecar.config.write_text(f'{text}[log]\nlevel = "debug"\n', encoding="utf-8")
    if how == "command":
        assert _done(sidecar, "reload") == "reloaded; changed: log.level\n"
    else:
        sidecar.send(signal.SIGHUP)
    (reloaded,) = eventually(lambda: sidecar.logged("configuration reloaded"))
    assert reloaded["changed"] == ["log.level"]
    sidecar.config.write_text(f'{text}[sds]\nsocket = "/run/sds"\n', encoding="utf-8")
    if how == "command":
        refused = sidecar.cli("reload")
        assert refused.returncode == 64
        assert refused.stderr.startswith("meshkey: sds: needs a restart; nothing changed")
    else:
        sidecar.send(signal.SIGHUP)
    (failed,) = eventually(lambda: sidecar.logged("configuration not reloaded"))
    assert "sds: needs a restart; nothing changed" in failed["error"]
    assert sidecar.running


async def _delta(call: SecretsCall) -> envoy_sds_pb2.DeltaDiscoveryResponse:
    return envoy_sds_pb2.DeltaDiscoveryResponse.FromString(await call.read())
