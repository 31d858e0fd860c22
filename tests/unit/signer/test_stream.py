"""One SignStream, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.core.process import CallingProcess
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.signer import stream as module
from sidecar.signer.signatures import Signatures
from sidecar.signer.stream import SignStream
from sidecar.token.base import KeyId
from sidecar.token.executor import Caller
from tests.fakes.callers import AdmittedFake, everything_of
from tests.fixtures.enrolment import World
from tests.fixtures.requests import sign_request
from tests.fixtures.waiting import settle, soon


class _Caller:
    """Feeds a stream and collects its answers."""

    def __init__(self, signatures: Signatures, caller: Caller | None = None) -> None:
        self.requests: asyncio.Queue[pb.SignRequests | None] = asyncio.Queue()
        self.answers: list[pb.SignResponse] = []
        self.read = 0
        self.listening = asyncio.Event()
        self.listening.set()
        self.admitted = AdmittedFake(everything_of("default"))
        self.running = asyncio.create_task(
            SignStream(signatures, self.admitted, caller or Caller()).run(
                self._incoming(), self._write
            )
        )

    def ask(self, *requests: pb.SignRequest) -> None:
        """Each in a message of its own."""
        for request in requests:
            self.requests.put_nowait(pb.SignRequests(requests=[request]))

    def end(self) -> None:
        self.requests.put_nowait(None)

    async def _incoming(self) -> AsyncIterator[pb.SignRequests]:
        while (request := await self.requests.get()) is not None:
            self.read += 1
            yield request

    async def _write(self, message: pb.SignResponses) -> None:
        await self.listening.wait()
        self.answers.extend(message.responses)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, backlog=4 * module._IN_FLIGHT)
    yield made
    made.executor.close()


@pytest.fixture
async def identity(world: World) -> Identity:
    made = world.identity()
    await made.renew()
    return made


@pytest.fixture
def key_id(identity: Identity) -> KeyId:
    assert identity.store.current
    return identity.store.current.key_id


@pytest.fixture
async def caller(world: World, identity: Identity) -> AsyncIterator[_Caller]:
    made = _Caller(Signatures(IdentityRegistry([identity]), world.token, world.executor))
    yield made
    made.running.cancel()
    await asyncio.wait([made.running])


async def test_an_empty_stream_ends(caller: _Caller) -> None:
    caller.end()
    await caller.running
    assert not caller.answers


async def test_a_stream_ends_only_after_its_last_answer(
    caller: _Caller, world: World, key_id: KeyId
) -> None:
    world.token.hold(key_id)
    caller.ask(sign_request(key_id, 1), sign_request(key_id, 2))
    caller.end()
    await soon(lambda: len(world.token.waiting) == 2)
    assert not caller.running.done()
    world.token.release(key_id)
    await caller.running
    assert {answer.request_id for answer in caller.answers} == {1, 2}


async def test_refusals_overtake_slow_signatures(
    caller: _Caller, world: World, key_id: KeyId
) -> None:
    world.token.hold(key_id)
    caller.ask(sign_request(key_id, 1), sign_request(b"another", 2))
    await soon(lambda: caller.answers)
    assert [answer.request_id for answer in caller.answers] == [2]
    world.token.release(key_id)
    await soon(lambda: len(caller.answers) == 2)


async def test_what_a_caller_may_have_is_asked_for_each_request(
    caller: _Caller, key_id: KeyId
) -> None:
    caller.ask(sign_request(key_id, 1))
    await soon(lambda: len(caller.answers) == 1)
    caller.admitted.permissions = {"default": frozenset()}
    caller.ask(sign_request(key_id, 2))
    await soon(lambda: len(caller.answers) == 2)
    caller.admitted.permissions = everything_of("another")
    caller.ask(sign_request(key_id, 3))
    await soon(lambda: len(caller.answers) == 3)
    first, second, third = caller.answers
    assert first.signature
    assert second.refusal.reason == pb.Refusal.REASON_PURPOSE
    assert third.refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY


async def test_past_the_bound_requests_are_left_unread(
    caller: _Caller, world: World, key_id: KeyId
) -> None:
    bound = module._IN_FLIGHT
    held = [sign_request(key_id, number) for number in range(bound + 3)]
    world.token.hold(key_id)
    caller.ask(*held)
    await soon(lambda: caller.read > bound)
    await settle()
    # The one that is read waits for room, the others wait with the caller.
    assert caller.read == bound + 1
    assert caller.requests.qsize() == 2
    world.token.release(key_id)
    await soon(lambda: len(caller.answers) == len(held))


async def test_a_caller_that_does_not_listen_is_not_read_for_ever(
    caller: _Caller, world: World
) -> None:
    bound = module._IN_FLIGHT
    caller.listening.clear()
    caller.ask(*[sign_request(b"another", number) for number in range(bound + 9)])
    await soon(lambda: caller.read > bound)
    await settle()
    assert caller.read == bound + 1
    caller.listening.set()
    await soon(lambda: len(caller.answers) == bound + 9)


async def test_a_caller_that_vanished_costs_nothing_more(
    caller: _Caller, world: World, key_id: KeyId
) -> None:
    world.token.hold(key_id)
    caller.ask(sign_request(key_id, 1))
    await soon(lambda: world.token.waiting)
    caller.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller.running
    world.token.release(key_id)
    await soon(lambda: not world.token.waiting)
    await settle()
    # Its answer came, and nothing waits for anyone.
    assert world.executor.pending == 0


# Several callers


@pytest.fixture
async def crowded(tmp_path: Path) -> AsyncIterator[tuple[World, Signatures, KeyId]]:
    """A token that works on two things, and four more may wait for it."""
    world = World(tmp_path, backlog=4)
    identity = world.identity()
    await identity.renew()
    assert identity.store.current
    registry = IdentityRegistry([identity])
    yield (
        world,
        Signatures(registry, world.token, world.executor),
        identity.store.current.key_id,
    )
    world.executor.close()


async def test_a_flooder_on_many_connections_keeps_nobody_out_of_a_full_lane(
    crowded: tuple[World, Signatures, KeyId],
) -> None:
    world, signatures, key_id = crowded
    world.token.hold(key_id)
    with ExitStack() as stack:

        def connect(pid: int) -> _Caller:
            process = CallingProcess(uid=1000, pid=pid)
            return _Caller(signatures, stack.enter_context(signatures.quota.caller(process)))

        floods = [connect(pid=1) for _ in range(3)]
        floods[0].ask(sign_request(key_id), sign_request(key_id))
        await soon(lambda: len(world.token.waiting) == 2)
        for number in range(10):
            floods[number % 3].ask(sign_request(key_id))
        # Two are worked on, four wait, and the rest was told so at once.
        await soon(lambda: sum(len(flood.answers) for flood in floods) == 6)
        honest = connect(pid=2)
        honest.ask(sign_request(key_id, 1), sign_request(key_id, 2), sign_request(key_id, 3))
        await soon(lambda: honest.answers)
        await soon(lambda: sum(len(flood.answers) for flood in floods) == 8)
        told = [answer for flood in floods for answer in flood.answers]
        assert {answer.retry.reason for answer in told} == {pb.Retry.REASON_BUSY}
        # Half of the lane is its part: the third finds it full.
        assert [(each.request_id, each.retry.reason) for each in honest.answers] == [
            (3, pb.Retry.REASON_BUSY)
        ]
        world.token.release(key_id)
        await soon(lambda: len(honest.answers) == 3)
        await soon(lambda: sum(len(flood.answers) for flood in floods) == 12)
        for caller in (honest, *floods):
            caller.end()
            await caller.running
    assert signatures.counts.busy == 9
    assert signatures.counts.signed == 6


async def test_a_bug_ends_its_stream_instead_of_leaving_the_caller_waiting(
    caller: _Caller, key_id: KeyId, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Signatures, "begin", begin)
    caller.ask(sign_request(key_id, 1))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(caller.running, 30)
