"""The signer over a real socket, on a token whose speed the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar._proto.meshkey.admin.v1 import admin_pb2, admin_pb2_grpc
from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar.admin.observed import Observed
from sidecar.admin.service import AdminService, ObserverService
from sidecar.core.certificate_verify import Side
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.rpc.sockets import bind, unix_channel, unix_server
from sidecar.signer.quota import Quota
from sidecar.signer.requests import MAX_MESSAGE_BYTES
from sidecar.signer.service import SignerService
from sidecar.signer.signatures import Signatures
from sidecar.token.base import KeyId
from tests.fakes.callers import Everyone
from tests.fakes.reloads import FakeReloads
from tests.fixtures import certificates
from tests.fixtures.enrolment import SPIFFE_ID, World
from tests.fixtures.requests import PURPOSES, handshake, sign_request, verify
from tests.fixtures.streams import SignCall
from tests.fixtures.waiting import soon

BACKLOG = 16


@dataclass
class _Signer:
    world: World
    identity: Identity
    callers: Everyone
    quota: Quota
    channel: grpc.aio.Channel
    # What the quota takes for the time.
    now: float = 0.0

    @property
    def stub(self) -> signer_pb2_grpc.SignerStub:
        return signer_pb2_grpc.SignerStub(self.channel)

    @property
    def key_id(self) -> KeyId:
        assert self.identity.store.current
        return self.identity.store.current.key_id

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        assert self.identity.store.current
        leaf = x509.load_der_x509_certificate(self.identity.store.current.chain.certificates[0])
        key = leaf.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return key


@pytest.fixture
async def signer(short_dir: Path, request: pytest.FixtureRequest) -> AsyncIterator[_Signer]:
    world = World(short_dir, backlog=BACKLOG)
    identity = world.identity(getattr(request, "param", frozenset(Side)))
    await identity.renew()
    registry = IdentityRegistry([identity])
    made: list[_Signer] = []
    quota = Quota(clock=lambda: made[0].now)
    signatures = Signatures(registry, world.token, world.executor, quota=quota)
    callers = Everyone("default")
    server = unix_server()
    server.add_generic_rpc_handlers((SignerService(registry, signatures, callers).handler(),))
    seen = Observed(world.token, world.executor, registry, signing=signatures.counts)
    admin_pb2_grpc.add_ObserverServicer_to_server(ObserverService(seen), server)
    admin_pb2_grpc.add_AdminServicer_to_server(AdminService(registry, FakeReloads()), server)
    bind(server, short_dir / "signer", 0o660)
    await server.start()
    async with unix_channel(short_dir / "signer") as channel:
        made.append(_Signer(world, identity, callers, quota, channel))
        yield made[0]
    await server.stop(None)
    await identity.close()
    world.executor.close()


async def _answers(stream: SignCall, count: int) -> dict[int, pb.SignResponse]:
    received = [await stream.read() for _ in range(count)]
    return {answer.request_id: answer for answer in received}


async def test_a_unary_signature(signer: _Signer) -> None:
    request = sign_request(signer.key_id, 7)
    verify(signer.public_key, request, await signer.stub.Sign(request))


async def test_a_unary_refusal_is_an_answer_and_no_error(signer: _Signer) -> None:
    answer = await signer.stub.Sign(sign_request(b"another", 7))
    assert answer.request_id == 7
    assert answer.refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY


async def test_a_slow_signature_is_overtaken_by_the_others(signer: _Signer) -> None:
    slow, first = signer.key_id, signer.public_key
    stream = SignCall(signer.channel)
    with signer.identity.store.subscribe():  # who has acknowledged nothing keeps the old key
        await signer.identity.renew()
        signer.world.token.hold(slow)
        request = sign_request(slow, 1)
        await stream.write(request)
        for number in range(2, 12):
            quick = sign_request(signer.key_id, number)
            await stream.write(quick)
            verify(signer.public_key, quick, await stream.read())
        signer.world.token.release(slow)
        verify(first, request, await stream.read())
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


# Each costs itself and nothing else.


def _changed(request: pb.SignRequest, **fields: object) -> pb.SignRequest:
    for name, value in fields.items():
        setattr(request, name, value)
    return request


_CSR = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
_OTHER_THINGS = {
    "csr": _CSR.sign(certificates.new_key(), hashes.SHA256()).tbs_certrequest_bytes,
    "certificate": certificates.root().certificate.tbs_certificate_bytes,
    "jwt": b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzcGlmZmU6Ly9hL2IifQ",
    "digest": bytes(32),
}

_REASON = pb.Refusal.Reason


def _unknown_field(length: int) -> bytes:
    return b"\xba\x01" + pb.SignRequest(message=bytes(length)).SerializeToString()[1:]


def _message(request: pb.SignRequest) -> bytes:
    return pb.SignRequests(requests=[request]).SerializeToString()


_REFUSED: dict[str, tuple[Callable[[KeyId], bytes], int, int]] = {
    "malformed": (lambda _: b"\xff\xff\xff", 0, _REASON.REASON_MESSAGE),
    "oversized": (
        # Right in all else, with a field of a later version.
        lambda key: _message(sign_request(key, 5)) + _unknown_field(MAX_MESSAGE_BYTES),
        0,
        _REASON.REASON_MESSAGE,
    ),
    "oversized by far": (lambda _: bytes(3 * 1024 * 1024), 0, _REASON.REASON_MESSAGE),
    "empty": (lambda _: _message(pb.SignRequest()), 0, _REASON.REASON_UNKNOWN_KEY),
    "unknown key": (
        lambda _: _message(sign_request(b"another", 5)),
        5,
        _REASON.REASON_UNKNOWN_KEY,
    ),
    "wrong scheme": (
        lambda key: _message(_changed(sign_request(key, 5), scheme=0x0804)),
        5,
        _REASON.REASON_SCHEME,
    ),
    "wrong purpose": (
        lambda key: _message(_changed(sign_request(key, 5), purpose=9)),
        5,
        _REASON.REASON_PURPOSE,
    ),
    "no purpose": (
        lambda key: _message(_changed(sign_request(key, 5), purpose=0)),
        5,
        _REASON.REASON_PURPOSE,
    ),
    "wrong side": (
        lambda key: _message(_changed(sign_request(key, 5), message=handshake(Side.CLIENT))),
        5,
        _REASON.REASON_MESSAGE,
    ),
    **{
        name: (
            lambda key, message=message: _message(  # type: ignore[misc]
                _changed(sign_request(key, 5), message=message)
            ),
            5,
            _REASON.REASON_MESSAGE,
        )
        for name, message in _OTHER_THINGS.items()
    },
}


@pytest.mark.parametrize("case", _REFUSED)
async def test_a_bad_request_is_refused_and_its_stream_goes_on(signer: _Signer, case: str) -> None:
    wire, request_id, reason = _REFUSED[case]
    stream = SignCall(signer.channel)
    for _ in range(2):
        await stream.write_raw(wire(signer.key_id))
        refused = await stream.read()
        assert refused.WhichOneof("result") == "refusal"
        assert (refused.request_id, refused.refusal.reason) == (request_id, reason)
        assert refused.refusal.detail
        good = sign_request(signer.key_id, 99)
        await stream.write(good)
        verify(signer.public_key, good, await stream.read())


async def test_what_is_wrong_with_one_request_of_a_message_concerns_no_other(
    signer: _Signer,
) -> None:
    stream = SignCall(signer.channel)
    good = [sign_request(signer.key_id, number) for number in range(1, 4)]
    await stream.write(good[0], sign_request(b"another", 9), *good[1:])
    answers = await _answers(stream, 4)
    assert answers[9].refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY
    for request in good:
        verify(signer.public_key, request, answers[request.request_id])


async def test_answers_that_are_ready_together_travel_together(signer: _Signer) -> None:
    stream = SignCall(signer.channel)
    await stream.write(*(sign_request(b"another", number) for number in range(50)))
    assert len(await _answers(stream, 50)) == 50
    assert stream.messages == 1


@pytest.mark.parametrize("signer", [frozenset([Side.CLIENT])], indirect=True)
async def test_a_key_for_one_side_signs_for_that_side_only(signer: _Signer) -> None:
    client, server = (sign_request(signer.key_id, side=side) for side in (Side.CLIENT, Side.SERVER))
    verify(signer.public_key, client, await signer.stub.Sign(client))
    refused = await signer.stub.Sign(server)
    assert refused.refusal.reason == pb.Refusal.REASON_PURPOSE
    disguised = _changed(server, purpose=PURPOSES[Side.CLIENT])
    refused = await signer.stub.Sign(disguised)
    assert refused.refusal.reason == pb.Refusal.REASON_MESSAGE


async def test_a_message_above_grpcs_limit_ends_its_own_stream_only(signer: _Signer) -> None:
    other, doomed = SignCall(signer.channel), SignCall(signer.channel)
    before = sign_request(signer.key_id, 1)
    await other.write(before)
    verify(signer.public_key, before, await other.read())
    await doomed.write_raw(bytes(5 * 1024 * 1024))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await doomed.read()
    assert ended.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    after = sign_request(signer.key_id, 2)
    await other.write(after)
    verify(signer.public_key, after, await other.read())
    verify(signer.public_key, after, await signer.stub.Sign(after))


async def test_a_malformed_watch_request_ends_its_own_stream_only(signer: _Signer) -> None:
    watch = signer.stub.WatchIdentity()
    await watch.write(pb.WatchRequest())
    assert (await watch.read()).generation == 1
    doomed: Any = signer.channel.stream_stream(
        "/meshkey.signer.v1.Signer/WatchIdentity", request_serializer=bytes
    )()
    await doomed.write(b"\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError):
        await doomed.read()
    await signer.identity.renew()
    assert (await watch.read()).generation == 2


# A slow token


async def test_a_full_backlog_tells_callers_to_come_back(signer: _Signer) -> None:
    signer.world.token.hold(signer.key_id)
    stream = SignCall(signer.channel)
    requests = {number: sign_request(signer.key_id, number) for number in range(1, BACKLOG + 7)}
    for request in list(requests.values())[:2]:
        await stream.write(request)
    # Both of the token's threads are at work; all others wait.
    await soon(lambda: len(signer.world.token.waiting) == 2)
    for request in list(requests.values())[2:]:
        await stream.write(request)
    busy = await _answers(stream, 4)
    assert {answer.retry.reason for answer in busy.values()} == {pb.Retry.REASON_BUSY}
    signer.world.token.release(signer.key_id)
    signed = await _answers(stream, BACKLOG + 2)
    assert {*busy} | {*signed} == {*requests}
    for number, answer in signed.items():
        verify(signer.public_key, requests[number], answer)
    # Coming back helps.
    again = requests[min(busy)]
    await stream.write(again)
    verify(signer.public_key, again, await stream.read())


async def test_two_streams_of_a_process_share_its_rate_and_go_on(signer: _Signer) -> None:
    signer.quota.change(caller_rate=10, key_rate=1000)
    streams = [SignCall(signer.channel), SignCall(signer.channel)]
    asked = [sign_request(signer.key_id, number) for number in range(40)]
    for number, request in enumerate(asked):
        await streams[number % 2].write(request)
    answers = [await _answers(stream, 20) for stream in streams]
    busy = [answer for each in answers for answer in each.values() if answer.HasField("retry")]
    assert len(busy) == 30
    assert {answer.retry.reason for answer in busy} == {pb.Retry.REASON_BUSY}
    signer.now += 1.0
    for stream in streams:
        await stream.write(asked[0])
        verify(signer.public_key, asked[0], await stream.read())


async def test_work_whose_stream_has_a_deadline_is_not_begun_after_it(signer: _Signer) -> None:
    token, executor = signer.world.token, signer.world.executor
    token.hold(signer.key_id)
    patient = SignCall(signer.channel)
    await patient.write(*(sign_request(signer.key_id, number) for number in range(2)))
    await soon(lambda: len(token.waiting) == 2, "both threads are busy")
    before = token.signatures
    hurried = SignCall(signer.channel, timeout=0.5)
    await hurried.write(*(sign_request(signer.key_id, number) for number in range(5)))
    assert await hurried.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    # What waits for nobody leaves the queue, and makes room for others.
    await soon(lambda: executor.pending == 2)
    token.release(signer.key_id)
    assert len(await _answers(patient, 2)) == 2
    assert token.signatures == before + 2


async def test_work_of_a_unary_call_is_not_begun_after_its_deadline(signer: _Signer) -> None:
    token, executor = signer.world.token, signer.world.executor
    token.hold(signer.key_id)
    patient = SignCall(signer.channel)
    await patient.write(*(sign_request(signer.key_id, number) for number in range(2)))
    await soon(lambda: len(token.waiting) == 2, "both threads are busy")
    before = token.signatures
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await signer.stub.Sign(sign_request(signer.key_id), timeout=0.1)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await soon(lambda: executor.pending == 2)
    token.release(signer.key_id)
    assert len(await _answers(patient, 2)) == 2
    assert token.signatures == before + 2


async def test_work_of_a_stream_that_was_cancelled_is_not_begun(signer: _Signer) -> None:
    token, executor = signer.world.token, signer.world.executor
    token.hold(signer.key_id)
    patient, leaving = SignCall(signer.channel), SignCall(signer.channel)
    await patient.write(*(sign_request(signer.key_id, number) for number in range(2)))
    await soon(lambda: len(token.waiting) == 2, "both threads are busy")
    before = token.signatures
    await leaving.write(*(sign_request(signer.key_id, number) for number in range(5)))
    await soon(lambda: executor.pending == 7)
    leaving.cancel()
    await soon(lambda: executor.pending == 2)
    token.release(signer.key_id)
    assert len(await _answers(patient, 2)) == 2
    assert token.signatures == before + 2


async def test_a_slow_token_holds_up_neither_watchers_nor_status(signer: _Signer) -> None:
    signer.world.token.hold(signer.key_id)
    stream = SignCall(signer.channel)
    for number in range(8):
        await stream.write(sign_request(signer.key_id, number))
    # Every thread of the token is busy now.
    await soon(lambda: len(signer.world.token.waiting) == 2)
    watch = signer.stub.WatchIdentity()
    await watch.write(pb.WatchRequest())
    assert (await watch.read()).generation == 1
    admin = admin_pb2_grpc.ObserverStub(signer.channel)
    status = await admin.Status(admin_pb2.StatusRequest())
    assert [identity.generation for identity in status.identities] == [1]
    refused = await signer.stub.Sign(sign_request(b"another"))
    assert refused.WhichOneof("result") == "refusal"
    assert len(signer.world.token.waiting) == 2
    signer.world.token.release(signer.key_id)
    assert len(await _answers(stream, 8)) == 8


async def test_a_lost_token_is_an_answer_and_the_stream_goes_on(signer: _Signer) -> None:
    stream = SignCall(signer.channel)
    signer.world.token.available = False
    await stream.write(sign_request(signer.key_id, 1))
    assert (await stream.read()).retry.reason == pb.Retry.REASON_TOKEN_UNAVAILABLE
    signer.world.token.available = True
    request = sign_request(signer.key_id, 2)
    await stream.write(request)
    verify(signer.public_key, request, await stream.read())


# Streams that come and go


async def test_a_half_closed_stream_is_answered_to_the_end(signer: _Signer) -> None:
    stream = SignCall(signer.channel)
    for number in range(10):
        await stream.write(sign_request(signer.key_id, number))
    await stream.done_writing()
    assert len(await _answers(stream, 10)) == 10
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK


async def test_a_caller_that_vanishes_hurts_nobody(signer: _Signer) -> None:
    signer.world.token.hold(signer.key_id)
    stream = SignCall(signer.channel)
    for number in range(4):
        await stream.write(sign_request(signer.key_id, number))
    await soon(lambda: signer.world.token.waiting)
    stream.cancel()
    signer.world.token.release(signer.key_id)
    request = sign_request(signer.key_id, 7)
    verify(signer.public_key, request, await signer.stub.Sign(request))


async def test_many_streams_at_once_get_their_own_answers(signer: _Signer) -> None:
    async def converse(first: int) -> None:
        stream = SignCall(signer.channel)
        for number in range(first, first + 20):
            request = sign_request(signer.key_id, number)
            await stream.write(request)
            verify(signer.public_key, request, await stream.read())
        await stream.done_writing()

    await asyncio.gather(*(converse(100 * number) for number in range(8)))


# WatchIdentity


async def test_a_watcher_gets_the_snapshot_and_each_later_one(signer: _Signer) -> None:
    watch = signer.stub.WatchIdentity()
    await watch.write(pb.WatchRequest(identity="default"))
    first = await watch.read()
    assert (first.generation, first.spiffe_id) == (1, str(SPIFFE_ID))
    assert first.key_id == signer.key_id.value
    await watch.write(pb.WatchRequest(acked_generation=1))
    await signer.identity.renew()
    second = await watch.read()
    assert second.generation == 2
    assert second.key_id == signer.key_id.value != first.key_id
    assert second.certificate_chain != first.certificate_chain


async def test_the_old_key_signs_until_the_watcher_acknowledges(signer: _Signer) -> None:
    watch = signer.stub.WatchIdentity()
    await watch.write(pb.WatchRequest())
    old = KeyId((await watch.read()).key_id)
    await signer.identity.renew()
    await watch.read()
    answer = await signer.stub.Sign(sign_request(old))
    assert answer.WhichOneof("result") == "signature"
    await watch.write(pb.WatchRequest(acked_generation=2))
    await soon(lambda: old not in signer.world.token.held_keys)
    answer = await signer.stub.Sign(sign_request(old))
    assert answer.refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY


async def test_a_refused_generation_keeps_the_old_key_and_shows_in_the_status(
    signer: _Signer,
) -> None:
    watch = signer.stub.WatchIdentity()
    await watch.write(pb.WatchRequest())
    old = KeyId((await watch.read()).key_id)
    await signer.identity.renew()
    await watch.read()
    await watch.write(pb.WatchRequest(acked_generation=2, error="unknown curve"))
    admin = admin_pb2_grpc.ObserverStub(signer.channel)
    (subscription,) = signer.identity.store.subscriptions
    await soon(lambda: subscription.error)
    status = await admin.Status(admin_pb2.StatusRequest())
    assert status.identities[0].subscribers[0].error == "unknown curve"
    for key_id in (old, signer.key_id):
        answer = await signer.stub.Sign(sign_request(key_id))
        assert answer.WhichOneof("result") == "signature"


async def test_an_unknown_identity_is_not_found(signer: _Signer) -> None:
    watch = signer.stub.WatchIdentity()
    await watch.write(pb.WatchRequest(identity="nobody"))
    with pytest.raises(grpc.aio.AioRpcError, match="no identity 'nobody' here") as refused:
        await watch.read()
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_that_says_nothing_gets_nothing(signer: _Signer) -> None:
    watch = signer.stub.WatchIdentity()
    await watch.done_writing()
    assert await watch.read() is grpc.aio.EOF


async def test_a_watcher_that_leaves_is_not_waited_for(signer: _Signer) -> None:
    watch = signer.stub.WatchIdentity()
    await watch.write(pb.WatchRequest())
    old = KeyId((await watch.read()).key_id)
    await signer.identity.renew()
    assert old in signer.world.token.held_keys
    watch.cancel()
    await soon(lambda: old not in signer.world.token.held_keys)
    assert not signer.identity.store.subscriptions
