"""`meshkey serve` with little to give."""

from __future__ import annotations

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from tests.fixtures.mesh import Mesh, identity_status
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.requests import sign_request
from tests.fixtures.streams import SignCall
from tests.fixtures.waiting import eventually

ASKED = 200


def _start(mesh: Mesh, signer: str) -> MeshkeyProcess:
    mesh.start_issuer()
    process = mesh.serve("web", mesh.sidecar_settings() + signer)
    process.wait_until_ready()
    eventually(lambda: identity_status(process).generation)
    return process


async def _answers(mesh: Mesh, process: MeshkeyProcess) -> list[pb.SignResponse]:
    """To one message of many requests, on a connection of its own."""
    key_id = identity_status(process).key_id
    async with mesh.channel("web") as channel:
        stream = SignCall(channel)
        await stream.write(*(sign_request(key_id, number) for number in range(ASKED)))
        answers = [await stream.read() for _ in range(ASKED)]
        await stream.done_writing()
        return answers


async def test_a_process_is_told_busy_past_its_rate(mesh: Mesh) -> None:
    # The message is read in far less time than one more takes to be allowed.
    process = _start(mesh, "caller_rate = 1\n")
    answers = await _answers(mesh, process)
    busy = [answer.retry for answer in answers if answer.HasField("retry")]
    assert 0 < len(busy) < ASKED
    assert {retry.reason for retry in busy} == {pb.Retry.REASON_BUSY}
    assert all("signer.caller_rate" in retry.detail for retry in busy)
    assert "caller over its rate" in process.log_text()


async def test_a_key_signs_so_often_in_a_second(mesh: Mesh) -> None:
    process = _start(mesh, "key_rate = 1\n")
    answers = await _answers(mesh, process)
    told = [answer.retry.detail for answer in answers if answer.HasField("retry")]
    assert 0 < len(told) < ASKED
    assert all("signer.key_rate" in detail for detail in told)
