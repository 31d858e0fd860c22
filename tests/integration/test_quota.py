"""`meshkey serve` with little to give, or with a token that has little."""

from __future__ import annotations

import asyncio

import pytest

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.core.certificate_verify import Side
from tests.e2e.shim import Shim
from tests.fixtures.flood import IN_FLIGHT, Flood, flooding
from tests.fixtures.mesh import Mesh, identity_status, status
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.requests import sign_request
from tests.fixtures.streams import SignCall
from tests.fixtures.waiting import eventually, soon

ASKED = 200


@pytest.fixture
def shim(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> Shim:
    made = Shim.build(mesh.directory)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    made.rule()
    return made


def _start(mesh: Mesh, signer: str) -> MeshkeyProcess:
    mesh.start_issuer()
    settings = mesh.sidecar_settings().replace("[signer]\n", f"[signer]\n{signer}")
    process = mesh.serve("web", settings)
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


async def test_a_flood_from_outside_leaves_what_the_workload_begins_its_share_of_a_slow_token(
    mesh: Mesh, shim: Shim
) -> None:
    mesh.start_issuer()
    process = mesh.start_sidecar(token={"module": str(shim.module), "threads": "1"})
    key_id = identity_status(process).key_id
    flood = Flood(mesh.socket("web"), key_id)
    # 10 ms: a hundred signatures a second.
    shim.rule("C_Sign delay 10")
    running = asyncio.create_task(flood.run())
    await soon(lambda: flood.signed >= 5)
    async with mesh.channel("web") as channel:
        stream = SignCall(channel)
        before = flood.signed
        for number in range(30):
            await stream.write(sign_request(key_id, number, side=Side.CLIENT))
            assert (await stream.read()).signature
        beside = flood.signed - before
    running.cancel()
    # Each waits for what runs, and for one more at most; some are signed while it is on its way.
    # First come, first served, it would be 64.
    assert beside <= 10 * 30
    # Neither is the flood kept waiting for ever.
    assert beside >= 15
    assert await asyncio.to_thread(process.stop) == 0, process.log_text()


async def test_a_flooder_with_many_connections_takes_a_turn_like_any_other_process(
    mesh: Mesh, shim: Shim
) -> None:
    mesh.start_issuer()
    process = mesh.start_sidecar(token={"module": str(shim.module), "threads": "1"})
    key_id = identity_status(process).key_id
    shim.rule("C_Sign delay 40")
    with flooding(mesh.socket("web"), key_id, connections=8):
        await soon(lambda: status(process).signed > 5)
        async with mesh.channel("web") as channel:
            stream = SignCall(channel)
            before = status(process).signed
            for number in range(15):
                await stream.write(sign_request(key_id, number))
                assert (await stream.read()).signature
            signed = status(process).signed - before
    # Each is one itself, waits for what runs, and for one more at most. With a turn for each
    # connection these would be nine or more; first come, first served, 512.
    assert 2 * 15 <= signed <= 6 * 15
    assert await asyncio.to_thread(process.stop) == 0, process.log_text()


async def test_a_token_that_is_gone_answers_a_flood_at_once_and_is_found_again(
    mesh: Mesh, shim: Shim
) -> None:
    mesh.start_issuer()
    process = mesh.start_sidecar(token={"module": str(shim.module), "threads": "1"})
    key_id = identity_status(process).key_id
    flood = Flood(mesh.socket("web"), key_id)
    # To find out that it is gone takes a while, as with an HSM that does not answer.
    shim.rule("C_SignInit fail 0x32", "C_Login delay 50", "C_OpenSession fail 0x32")
    running = asyncio.create_task(flood.run())
    await soon(lambda: flood.answered > 5 * IN_FLIGHT)
    assert not flood.signed
    assert process.logged("token left alone")
    assert any("it is asked again soon" in detail for detail in flood.told)
    assert (await asyncio.to_thread(status, process)).told_to_retry >= 5 * IN_FLIGHT
    shim.rule()
    await soon(lambda: flood.signed > IN_FLIGHT)
    running.cancel()
    assert process.logged("token signs again")
    assert await asyncio.to_thread(process.stop) == 0, process.log_text()
    assert "Traceback" not in process.log_text()
