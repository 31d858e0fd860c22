"""`meshkey serve` on tokens that hang, lose their keys or have few sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from cryptography import x509

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar.token.base import KeyId
from tests.conftest import MODULE
from tests.e2e.shim import Shim
from tests.fixtures.mesh import Mesh, identity_status, status, wait_for_generation
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.requests import sign_request, verify
from tests.fixtures.stores import away, empty_again, put_another_key
from tests.fixtures.streams import SignCall
from tests.fixtures.waiting import soon

# What a signature may take here. A loaded machine may need it, so failing is no test.
PATIENCE = "2s"

Start = Callable[..., MeshkeyProcess]


@pytest.fixture
def shim(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> Shim:
    made = Shim.build(mesh.directory)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    made.rule()
    return made


@pytest.fixture
def start(mesh: Mesh, shim: Shim) -> Start:
    """Starts a local CA, and a sidecar behind the shim."""

    def start_sidecar(**token: str) -> MeshkeyProcess:
        mesh.start_issuer()
        settings = {"module": str(shim.module), "patience": PATIENCE, **token}
        return mesh.start_sidecar(token=settings)

    return start_sidecar


async def _watched(stub: Any) -> tuple[Any, pb.IdentityUpdate]:
    watch = stub.WatchIdentity()
    await watch.write(pb.WatchRequest())
    return watch, await watch.read()


async def _signs(stub: Any, update: pb.IdentityUpdate) -> None:
    leaf = x509.load_der_x509_certificate(update.certificate_chain[0])
    request = sign_request(KeyId(update.key_id))
    verify(leaf.public_key(), request, await stub.Sign(request))  # type: ignore[arg-type]


async def test_a_module_that_hangs_leaves_everything_else_alive(
    mesh: Mesh, shim: Shim, start: Start
) -> None:
    sidecar = start(threads="2")
    async with mesh.channel("web") as channel:
        stub = signer_pb2_grpc.SignerStub(channel)
        watch, update = await _watched(stub)
        await _signs(stub, update)
        shim.rule("C_Sign hang")
        asked = [sign_request(KeyId(update.key_id), number) for number in range(1, 9)]
        answers = await asyncio.gather(*(stub.Sign(request) for request in asked))
        assert {answer.WhichOneof("result") for answer in answers} == {"retry"}
        await soon(lambda: status(sidecar).token.hung == 2, "both threads hang")
        # Now at once, instead of waiting behind what hangs.
        answer = await stub.Sign(sign_request(KeyId(update.key_id)))
        assert answer.retry.reason == pb.Retry.REASON_TOKEN_UNAVAILABLE
        assert "does not return" in answer.retry.detail
        later, same = await _watched(stub)
        assert same == update
        shim.rule()
        await soon(lambda: status(sidecar).token.hung == 0, "the module returns")
        await _signs(stub, update)
        with sidecar.admin() as client:
            await asyncio.to_thread(client.rotate, "default")
        newest = await watch.read()
        assert newest.generation == 2
        assert await later.read() == newest
        await _signs(stub, newest)
        watch.cancel()
        later.cancel()
    assert sidecar.stop() == 0, sidecar.log_text()
    assert "Traceback" not in sidecar.log_text()


async def test_a_module_that_hangs_does_not_keep_the_process_from_ending(
    mesh: Mesh, shim: Shim, start: Start
) -> None:
    sidecar = start(threads="1", patience="1s")
    key_id = KeyId(identity_status(sidecar).key_id)
    async with mesh.channel("web") as channel:
        shim.rule("C_Sign hang", "C_FindObjectsInit hang")
        stub = signer_pb2_grpc.SignerStub(channel)
        await stub.Sign(sign_request(key_id))
        await soon(lambda: status(sidecar).token.hung == 1, "it hangs")
        assert await asyncio.to_thread(sidecar.stop) == 0, sidecar.log_text()
    assert "Traceback" not in sidecar.log_text()


async def test_a_hang_in_the_middle_of_a_renewal_does_not_either(
    mesh: Mesh, shim: Shim, start: Start
) -> None:
    sidecar = start(threads="1")
    shim.rule("C_GenerateKeyPair hang")
    with sidecar.admin() as client:
        rotating = asyncio.create_task(asyncio.to_thread(_ignoring, client.rotate, "default"))
        # One thread, and it is in there: nobody else is served.
        async with mesh.channel("web") as channel:
            stub = signer_pb2_grpc.SignerStub(channel)
            key_id = KeyId(identity_status(sidecar).key_id)
            answers = [await stub.Sign(sign_request(key_id))]
            while answers[-1].WhichOneof("result") == "signature":
                answers.append(await stub.Sign(sign_request(key_id)))
        assert await asyncio.to_thread(sidecar.stop) == 0, sidecar.log_text()
        await rotating
    assert "Traceback" not in sidecar.log_text()


def _ignoring(work: Callable[[str], object], argument: str) -> None:
    with suppress(Exception):  # the process ends under it
        work(argument)


# Keys that are gone, or others


async def test_a_store_that_was_emptied_gets_a_new_identity_without_a_restart(mesh: Mesh) -> None:
    mesh.start_issuer()
    sidecar = mesh.start_sidecar()
    async with mesh.channel("web") as channel:
        stub = signer_pb2_grpc.SignerStub(channel)
        watch, update = await _watched(stub)
        await _signs(stub, update)
        empty_again(mesh.store("web"), "web")
        answer = await stub.Sign(sign_request(KeyId(update.key_id)))
        assert answer.WhichOneof("result") == "retry"
        newest = await watch.read()
        assert newest.generation == 2
        assert newest.key_id != update.key_id
        await _signs(stub, newest)
        watch.cancel()
    (lost,) = sidecar.logged("key lost")
    assert lost["level"] == "error"
    assert sidecar.stop() == 0, sidecar.log_text()
    assert "Traceback" not in sidecar.log_text()


async def test_a_key_that_became_another_one_raises_an_alarm_and_is_replaced(mesh: Mesh) -> None:
    mesh.start_issuer()
    sidecar = mesh.start_sidecar()
    store = mesh.store("web")
    async with mesh.channel("web") as channel:
        stub = signer_pb2_grpc.SignerStub(channel)
        watch, update = await _watched(stub)
        await _signs(stub, update)
        with away(store):
            empty_again(store, "web")
            put_another_key(MODULE, store, "web", KeyId(update.key_id))
            for _ in range(3):
                answer = await stub.Sign(sign_request(KeyId(update.key_id)))
                assert answer.WhichOneof("result") == "retry"
            newest = await watch.read()
            assert newest.key_id != update.key_id
            await _signs(stub, newest)
            watch.cancel()
            (alarm,) = sidecar.logged("key changed on the token")
            assert alarm["level"] == "critical"
            assert sidecar.stop() == 0, sidecar.log_text()
    assert "Traceback" not in sidecar.log_text()


# Few sessions


@pytest.mark.parametrize("says_so", [True, False], ids=["says so", "one thread"])
async def test_a_token_with_one_session_serves_everybody(
    mesh: Mesh, shim: Shim, start: Start, says_so: bool
) -> None:
    if says_so:
        shim.rule("C_GetTokenInfo sessions 1", "C_OpenSession limit 1")
        sidecar = start(threads="8")
    else:
        sidecar = start(threads="1")
    async with mesh.channel("web") as channel:
        stub = signer_pb2_grpc.SignerStub(channel)
        watch, update = await _watched(stub)
        leaf = x509.load_der_x509_certificate(update.certificate_chain[0])
        requests = {n: sign_request(KeyId(update.key_id), n) for n in range(64)}
        stream = SignCall(channel)
        await stream.write(*requests.values())
        for _ in requests:
            answer = await stream.read()
            verify(leaf.public_key(), requests[answer.request_id], answer)  # type: ignore[arg-type]
        stream.cancel()
        watch.cancel()
    # And it still makes keys meanwhile.
    with sidecar.admin() as client:
        assert await asyncio.to_thread(client.rotate, "default") == 2
    wait_for_generation(sidecar, 2)
    assert sidecar.stop() == 0, sidecar.log_text()


async def test_fewer_sessions_than_threads_are_enough(mesh: Mesh, shim: Shim, start: Start) -> None:
    # The login's and two more, and the token does not say so.
    shim.rule("C_OpenSession limit 3")
    sidecar = start(threads="8", patience="9s")
    key_id = KeyId(identity_status(sidecar).key_id)
    async with mesh.channel("web") as channel:
        stream = SignCall(channel)
        await stream.write(*(sign_request(key_id, n) for n in range(200)))
        answers = [await stream.read() for _ in range(200)]
        stream.cancel()
        assert {answer.WhichOneof("result") for answer in answers} == {"signature"}
    assert sidecar.logged("no session for each thread: some take turns; lower token.threads")
    assert sidecar.stop() == 0, sidecar.log_text()
