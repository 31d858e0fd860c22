"""The audit log of a real process on SoftHSM2: killed, on a full disk, restarted, rotated."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar.audit.files import files_in
from sidecar.token.base import KeyId
from tests.fixtures.audit import records as _records
from tests.fixtures.mesh import Mesh, identity_status, wait_for_generation
from tests.fixtures.process import MeshkeyProcess, run_cli
from tests.fixtures.requests import sign_request
from tests.fixtures.streams import SignCall
from tests.fixtures.waiting import eventually, soon

IN_FLIGHT = 64

Start = Callable[..., MeshkeyProcess]


@pytest.fixture
def directory(mesh: Mesh) -> Path:
    return mesh.directory / "audit"


@pytest.fixture
def start(mesh: Mesh, directory: Path) -> Start:
    mesh.start_issuer()

    def start_sidecar(**audit: str) -> MeshkeyProcess:
        return mesh.start_sidecar(audit={"directory": str(directory), **audit})

    return start_sidecar


def _events(directory: Path) -> list[str]:
    return [record["event"] for record in _records(directory)]


def _key_file(process: MeshkeyProcess) -> Path:
    printed = process.cli("audit", "key")
    assert printed.returncode == 0, printed.stderr
    file = process.config.with_name("audit-key.pem")
    file.write_text(printed.stdout, encoding="utf-8")
    return file


def _verify(key: Path, *arguments: object) -> dict[str, Any]:
    done = run_cli("audit", "verify", "--json", "--audit-key", str(key), *map(str, arguments))
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (65 if report["bad_record"] else 0), done.stderr
    return report


class _Load:
    """Keeps requests in flight until the stream breaks; remembers what was answered."""

    def __init__(self, channel: grpc.aio.Channel, key_id: KeyId) -> None:
        self._call = SignCall(channel)
        self._key_id = key_id
        self._asked: dict[int, bytes] = {}
        self.signed: set[str] = set()

    async def run(self) -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for number in range(1, IN_FLIGHT + 1):
                await self._ask(number)
            while (answer := await self._call.read()) is not grpc.aio.EOF:
                message = self._asked.pop(answer.request_id)
                if answer.signature:
                    self.signed.add(sha256(message).hexdigest())
                await self._ask(answer.request_id + IN_FLIGHT)

    async def _ask(self, number: int) -> None:
        request = sign_request(self._key_id, number)
        self._asked[number] = request.message
        await self._call.write(request)


async def test_a_process_that_is_killed_has_a_record_of_every_signature_that_left(
    mesh: Mesh, start: Start, directory: Path
) -> None:
    sidecar = start(seal_records="100")
    key = _key_file(sidecar)
    async with mesh.channel("web") as channel:
        load = _Load(channel, KeyId(identity_status(sidecar).key_id))
        running = asyncio.create_task(load.run())
        await soon(lambda: len(load.signed) > 1000 and _events(directory).count("seal") > 3)
        sidecar.kill()
        await running
    recorded = {r["message_sha256"] for r in _records(directory) if r["event"] == "signature"}
    assert len(load.signed) > 1000
    assert not load.signed - recorded
    before = _verify(key, directory)
    assert before["bad_record"] is None or before["bad_record"]["kind"] == "truncated"
    assert not before["tail_proven"]
    # A restart goes on where it was.
    again = start(seal_records="100")
    assert again.stop() == 0, again.log_text()
    after = _verify(key, directory)
    assert after["bad_record"] is None
    assert after["first"] == 1
    assert after["proven"] == after["last"] - 1
    assert len([event for event in _events(directory) if event == "start"]) == 2


def test_the_life_of_a_process_is_in_its_log(mesh: Mesh, start: Start, directory: Path) -> None:
    anchor = mesh.directory / "anchor"
    sidecar = start(anchor=str(anchor))
    key = _key_file(sidecar)
    before = KeyId(identity_status(sidecar).key_id)
    with sidecar.admin() as client:
        client.rotate("default")
    after = KeyId(identity_status(sidecar).key_id)
    assert sidecar.stop() == 0, sidecar.log_text()
    events = _events(directory)
    assert events[:3] == ["opened", "audit key born", "start"]
    assert events[-2:] == ["stop", "seal"]
    lives = {
        event: [r["key_id"] for r in _records(directory) if r["event"] == event]
        for event in ("key born", "certificate published", "key destroyed")
    }
    assert lives["key born"] == lives["certificate published"] == [str(before), str(after)]
    assert set(lives["key destroyed"]) == {str(before), str(after)}
    report = _verify(key, directory, "--anchor", anchor)
    assert report["bad_record"] is None
    assert report["tail_proven"]
    assert report["proven"] == report["last"]
    # The audit key is the only one that stays.
    held = json.loads(sidecar.cli("keys", "list", "--json").stdout)
    assert [each["label"].split(":")[1] for each in held] == ["audit"]
    assert sidecar.logged("auditing")


def test_what_was_cut_off_is_told_by_the_anchor_alone(
    mesh: Mesh, start: Start, directory: Path
) -> None:
    anchor = mesh.directory / "anchor"
    sidecar = start(anchor=str(anchor), seal_records="1")
    key = _key_file(sidecar)
    assert sidecar.stop() == 0, sidecar.log_text()
    (file,) = files_in(directory)
    lines = file.read_bytes().splitlines(keepends=True)
    seals = [number for number, line in enumerate(lines) if b'"event":"seal"' in line]
    file.write_bytes(b"".join(lines[: seals[-2] + 1]))
    alone = _verify(key, directory)
    assert alone["bad_record"] is None
    assert not alone["tail_proven"]
    bad = _verify(key, directory, "--anchor", anchor)["bad_record"]
    assert (bad["kind"], bad["line"]) == ("truncated", seals[-2] + 2)


def test_a_refusal_is_recorded_before_it_is_told(mesh: Mesh, start: Start, directory: Path) -> None:
    start()
    request = sign_request(b"another")

    async def ask() -> pb.SignResponse:
        async with mesh.channel("web") as channel:
            answer: pb.SignResponse = await signer_pb2_grpc.SignerStub(channel).Sign(request)
            return answer

    assert asyncio.run(ask()).refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY
    (record,) = [r for r in _records(directory) if r["event"] == "signature"]
    assert record["result"] == "refused UNKNOWN_KEY"
    assert record["key_id"] == b"another".hex()
    assert record["message_sha256"] == sha256(request.message).hexdigest()
    program = sha256(Path("/proc/self/exe").read_bytes()).hexdigest()
    ours = {"uid": os.getuid(), "pid": os.getpid(), "executable_sha256": program}
    assert record["caller"] == ours
    assert request.message.hex() not in (files_in(directory)[0]).read_text()


def test_each_configuration_has_its_hash(mesh: Mesh, start: Start, directory: Path) -> None:
    for audit in ({}, {}, {"seal_records": "7"}):
        assert start(**audit).stop() == 0
    hashes = [r["configuration_sha256"] for r in _records(directory) if r["event"] == "start"]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_log_has_one_writer(mesh: Mesh, start: Start, directory: Path) -> None:
    start()
    other = mesh.serve("other", mesh.sidecar_settings("other", audit={"directory": str(directory)}))
    assert other.wait() == 64
    assert "another process writes there" in other.log_text()


def test_rotated_files_are_one_log(mesh: Mesh, start: Start, directory: Path) -> None:
    sidecar = start(rotate_size="1KiB")
    key = _key_file(sidecar)
    for generation in range(2, 5):
        with sidecar.admin() as client:
            client.rotate("default")
        wait_for_generation(sidecar, generation)
    assert sidecar.stop() == 0, sidecar.log_text()
    files = files_in(directory)
    assert len(files) > 2
    assert _verify(key, directory)["bad_record"] is None
    assert _verify(key, *files)["bad_record"] is None
    files[1].unlink()
    bad = _verify(key, directory)["bad_record"]
    assert (bad["kind"], bad["file"], bad["line"]) == ("missing", str(files[2]), 1)


def test_without_a_section_nothing_is_recorded_and_a_line_says_so(mesh: Mesh) -> None:
    mesh.start_issuer()
    sidecar = mesh.start_sidecar()
    (line,) = sidecar.logged("nothing is audited: there is no section [audit]")
    assert line["level"] == "info"
    assert not list(mesh.directory.rglob("audit-*.jsonl"))
    refused = sidecar.cli("audit", "key")
    assert refused.returncode == 64
    assert "no section [audit]" in refused.stderr


# A full disk: the file may not grow, which is the same to a write(2).


@contextmanager
def _full(process: MeshkeyProcess, file: Path) -> Iterator[None]:
    """Room for a part of the next record, so that it must be taken back."""
    room = file.stat().st_size + 100
    # Or its log of events, a file too, would be what is full.
    assert process.log.stat().st_size < room / 2
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, -1))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


async def _filled(stub: Any, key_id: KeyId, directory: Path) -> Path:
    """A file that is larger than the process's other files."""
    (file,) = files_in(directory)
    while file.stat().st_size < 100_000:
        requests = [sign_request(key_id, number) for number in range(IN_FLIGHT)]
        await asyncio.gather(*(stub.Sign(request) for request in requests))
    return file


async def test_when_the_disk_is_full_signing_goes_on_with_an_alarm(
    mesh: Mesh, start: Start, directory: Path
) -> None:
    sidecar = start()
    key, key_id = _key_file(sidecar), KeyId(identity_status(sidecar).key_id)
    async with mesh.channel("web") as channel:
        stub = signer_pb2_grpc.SignerStub(channel)
        file = await _filled(stub, key_id, directory)
        with _full(sidecar, file):
            for _ in range(10):
                assert (await stub.Sign(sign_request(key_id))).signature
            assert len(sidecar.logged("audit log not written")) == 1
        await soon(lambda: "log interrupted" in _events(directory))
        assert (await stub.Sign(sign_request(key_id))).signature
    (interrupted,) = [r for r in _records(directory) if r["event"] == "log interrupted"]
    assert interrupted["lost"] >= 10
    assert sidecar.stop() == 0, sidecar.log_text()
    assert _verify(key, directory)["bad_record"] is None


async def test_when_the_disk_is_full_strict_signs_nothing(
    mesh: Mesh, start: Start, directory: Path
) -> None:
    sidecar = start(strict="true")
    key, key_id = _key_file(sidecar), KeyId(identity_status(sidecar).key_id)
    async with mesh.channel("web") as channel:
        stub = signer_pb2_grpc.SignerStub(channel)
        file = await _filled(stub, key_id, directory)
        with _full(sidecar, file):
            answers = [await stub.Sign(sign_request(key_id)) for _ in range(10)]
            assert {answer.WhichOneof("result") for answer in answers} == {"retry"}
            assert "the audit log cannot be written" in answers[0].retry.detail
            assert sidecar.running
        await soon(lambda: "log interrupted" in _events(directory))
        answer = await stub.Sign(sign_request(key_id))
        while not answer.signature:
            answer = await stub.Sign(sign_request(key_id))
    assert sidecar.stop(signal.SIGTERM) == 0, sidecar.log_text()
    assert _verify(key, directory)["bad_record"] is None


def test_strict_does_not_start_on_a_log_that_was_changed(
    mesh: Mesh, start: Start, directory: Path
) -> None:
    sidecar = start()
    key = _key_file(sidecar)
    assert sidecar.stop() == 0
    (file,) = files_in(directory)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:3], *lines[4:]]))
    settings = {"directory": str(directory), "strict": "true"}
    strict = mesh.serve("web", mesh.sidecar_settings("web", audit=settings))
    assert strict.wait() == 69
    assert "the audit log is damaged" in strict.log_text()
    again = start()
    eventually(lambda: again.logged("audit log damaged"))
    assert again.stop() == 0
    bad = _verify(key, directory)["bad_record"]
    assert (bad["kind"], bad["line"]) == ("missing", 4)
