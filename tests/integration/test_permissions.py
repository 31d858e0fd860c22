"""The signer obeys what a caller may have: at the beginning of a call, and during it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar.audit.base import Asked, Done, NoAudit
from sidecar.core.certificate_verify import Side
from sidecar.core.process import CallingProcess
from sidecar.core.purpose import SigningPurpose
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.rpc.sockets import bind, unix_channel, unix_server
from sidecar.signer.service import SignerService
from sidecar.signer.signatures import Signatures
from sidecar.token.base import KeyId
from tests.fakes.callers import Everyone, everything_of
from tests.fixtures.enrolment import World
from tests.fixtures.requests import sign_request
from tests.fixtures.streams import SignCall
from tests.fixtures.waiting import soon

UNKNOWN_KEY = pb.Refusal.REASON_UNKNOWN_KEY
DENIED = grpc.StatusCode.PERMISSION_DENIED
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PROCESS = CallingProcess(uid=4711, gid=12, pid=99, executable="ab" * 32)
SERVER_ONLY = frozenset({SigningPurpose.TLS13_SERVER_CERTIFICATE_VERIFY})


class _Audit(NoAudit):
    """Remembers what was asked, and by whom."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.results: list[str] = []

    def request(self, asked: Asked, result: str, done: Done) -> None:
        self.asked.append(asked)
        self.results.append(result)
        done(None)


@dataclass
class _Signer:
    """Two identities with keys, and a caller who may have one of them."""

    mine: Identity
    others: Identity
    callers: Everyone
    signatures: Signatures
    audit: _Audit
    channel: grpc.aio.Channel

    @property
    def stub(self) -> signer_pb2_grpc.SignerStub:
        return signer_pb2_grpc.SignerStub(self.channel)

    def watch(self, identity: str) -> grpc.aio.StreamStreamCall[pb.WatchRequest, pb.IdentityUpdate]:
        async def requests() -> AsyncIterator[pb.WatchRequest]:
            yield pb.WatchRequest(identity=identity)
            # And nothing more, while the call lasts.
            await soon(call.done)

        call: grpc.aio.StreamStreamCall[pb.WatchRequest, pb.IdentityUpdate] = (
            self.stub.WatchIdentity(requests())
        )
        return call


@pytest.fixture
async def signer(short_dir: Path) -> AsyncIterator[_Signer]:
    world = World(short_dir, backlog=16)
    mine, others = world.identity(), world.identity(name="others")
    await mine.renew()
    await others.renew()
    registry, audit = IdentityRegistry([mine, others]), _Audit()
    signatures = Signatures(registry, world.token, world.executor, audit=audit)
    callers = Everyone("default", process=PROCESS)
    server = unix_server()
    service = SignerService(registry, signatures, callers)
    server.add_generic_rpc_handlers((service.handler(),))
    bind(server, short_dir / "signer", 0o660)
    await server.start()
    async with unix_channel(short_dir / "signer") as channel:
        yield _Signer(mine, others, callers, signatures, audit, channel)
    await server.stop(None)
    await mine.close()
    await others.close()
    world.executor.close()


def _key(identity: Identity) -> KeyId:
    assert identity.store.current
    return identity.store.current.key_id


async def _end(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a call ends of which nothing more is expected."""
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call.read()
    return ended.value.code(), ended.value.details() or ""


async def test_a_forbidden_key_answers_as_an_unknown_one_however_it_is_asked(
    signer: _Signer,
) -> None:
    forbidden, unknown = _key(signer.others), KeyId(b"x" * len(_key(signer.others).value))
    stream = SignCall(signer.channel)
    answers = []
    for number, key_id in enumerate((forbidden, unknown, forbidden, unknown)):
        side = Side.SERVER if number < 2 else Side.CLIENT
        request = sign_request(key_id, 7, side)
        answers.append(await signer.stub.Sign(request))
        await stream.write(request)
        answers.append(await stream.read())
    assert {answer.SerializeToString() for answer in answers} == {answers[0].SerializeToString()}
    assert answers[0].refusal.reason == UNKNOWN_KEY
    mine = await signer.stub.Sign(sign_request(_key(signer.mine), 7))
    assert mine.signature
    stream.cancel()


async def test_a_purpose_that_is_not_allowed_is_refused_and_another_one_signed(
    signer: _Signer,
) -> None:
    signer.callers.allow({"default": SERVER_ONLY})
    key_id = _key(signer.mine)
    refused = await signer.stub.Sign(sign_request(key_id, 1, Side.CLIENT))
    assert refused.refusal.reason == pb.Refusal.REASON_PURPOSE
    assert (await signer.stub.Sign(sign_request(key_id, 2, Side.SERVER))).signature


async def test_a_forbidden_identity_is_watched_like_an_unknown_one(signer: _Signer) -> None:
    ends = set()
    for name in ("others", "nobody"):
        code, text = await _end(signer.watch(name))
        ends.add((code, text.replace(name, "NAME")))
    ((code, text),) = ends
    assert (code, text) == (NOT_FOUND, "no identity 'NAME' here; see: meshkey status")
    mine = signer.watch("default")
    update = await mine.read()
    assert isinstance(update, pb.IdentityUpdate)
    assert update.key_id == _key(signer.mine).value
    mine.cancel()


async def test_a_watch_ends_when_its_identity_may_not_be_followed_any_more(
    signer: _Signer,
) -> None:
    call = signer.watch("default")
    assert isinstance(await call.read(), pb.IdentityUpdate)
    signer.callers.allow(everything_of("others"))
    assert await _end(call) == (NOT_FOUND, "no identity 'default' here; see: meshkey status")
    await soon(lambda: not signer.mine.store.subscriptions)


async def test_a_stream_goes_on_with_what_is_still_allowed(signer: _Signer) -> None:
    stream = SignCall(signer.channel)
    await stream.write(sign_request(_key(signer.mine), 1))
    assert (await stream.read()).signature
    signer.callers.allow(everything_of("others"))
    await stream.write(sign_request(_key(signer.mine), 2))
    assert (await stream.read()).refusal.reason == UNKNOWN_KEY
    await stream.write(sign_request(_key(signer.others), 3))
    assert (await stream.read()).signature
    stream.cancel()


async def test_who_may_have_nothing_any_more_is_put_out_of_every_call(signer: _Signer) -> None:
    stream, watch = SignCall(signer.channel), signer.watch("default")
    await stream.write(sign_request(_key(signer.mine)))
    assert (await stream.read()).signature
    await watch.read()
    signer.callers.allow({})
    assert await _end(stream) == await _end(watch) == (DENIED, "the rules have changed")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await signer.stub.Sign(sign_request(_key(signer.mine)))
    assert refused.value.code() is DENIED
    assert signer.signatures.counts.callers.refused == 3
    await soon(lambda: not signer.callers.calls)


async def test_the_audit_log_is_told_which_process_asked(signer: _Signer) -> None:
    await signer.stub.Sign(sign_request(_key(signer.mine), 1))
    await signer.stub.Sign(sign_request(_key(signer.others), 2))
    stream = SignCall(signer.channel)
    await stream.write(sign_request(_key(signer.mine), 3))
    await stream.read()
    stream.cancel()
    assert signer.audit.results == ["signed", "refused UNKNOWN_KEY", "signed"]
    assert {asked.process for asked in signer.audit.asked} == {PROCESS}
