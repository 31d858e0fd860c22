"""One WatchIdentity, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog
from structlog.testing import capture_logs

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.identity.identity import Identity
from sidecar.rpc.quiet import Quiet
from sidecar.signer.watch import follow
from sidecar.token.base import KeyId
from tests.fixtures.enrolment import SPIFFE_ID, TRUST_DOMAIN, World
from tests.fixtures.requests import SCHEME
from tests.fixtures.waiting import soon


class _Subscriber:
    def __init__(self, identity: Identity) -> None:
        self.updates: list[pb.IdentityUpdate] = []
        self._requests: asyncio.Queue[pb.WatchRequest | None] = asyncio.Queue()
        following = follow(identity, self._incoming(), self._write, Quiet(lambda: 0.0))
        self.running = asyncio.create_task(following)

    def answer(self, generation: int, error: str = "") -> None:
        self._requests.put_nowait(pb.WatchRequest(acked_generation=generation, error=error))

    def end(self) -> None:
        self._requests.put_nowait(None)

    async def _incoming(self) -> AsyncIterator[pb.WatchRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _write(self, update: pb.IdentityUpdate) -> None:
        self.updates.append(update)


@pytest.fixture
async def identity(world: World) -> Identity:
    made = world.identity()
    await made.renew()
    return made


async def test_an_update_is_the_whole_snapshot(world: World, identity: Identity) -> None:
    subscriber = _Subscriber(identity)
    await soon(lambda: subscriber.updates)
    snapshot = identity.store.current
    assert snapshot
    assert subscriber.updates == [
        pb.IdentityUpdate(
            generation=1,
            key_id=snapshot.key_id.value,
            spiffe_id=str(SPIFFE_ID),
            certificate_chain=snapshot.chain.certificates,
            trust_bundles=[
                pb.TrustBundle(trust_domain=TRUST_DOMAIN, roots=[world.authority.root.der])
            ],
            schemes=[SCHEME],
            not_before=int(snapshot.chain.not_before.timestamp()),
            not_after=int(snapshot.chain.not_after.timestamp()),
        )
    ]
    subscriber.end()
    await subscriber.running


async def test_who_leaves_is_no_subscriber_any_more(identity: Identity) -> None:
    subscriber = _Subscriber(identity)
    await soon(lambda: identity.store.subscriptions)
    subscriber.end()
    await subscriber.running
    assert not identity.store.subscriptions


async def test_who_is_cut_off_is_no_subscriber_any_more(identity: Identity) -> None:
    subscriber = _Subscriber(identity)
    await soon(lambda: subscriber.updates)
    subscriber.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await subscriber.running
    assert not identity.store.subscriptions


async def test_a_refusal_is_an_alarm_with_the_generation_and_the_reason(
    identity: Identity,
) -> None:
    structlog.reset_defaults()
    subscriber = _Subscriber(identity)
    with capture_logs() as logged:
        await soon(lambda: subscriber.updates)
        subscriber.answer(1, "no room for another certificate")
        await soon(lambda: logged)
    (entry,) = logged
    assert entry["event"] == "generation refused by subscriber"
    assert entry["log_level"] == "error"
    assert (entry["generation"], entry["error"]) == (1, "no room for another certificate")
    (subscription,) = identity.store.subscriptions
    assert subscription.error == "no room for another certificate"
    subscriber.end()
    await subscriber.running


async def test_what_a_subscriber_says_is_short_printable_and_said_once_a_second(
    identity: Identity,
) -> None:
    structlog.reset_defaults()
    subscriber = _Subscriber(identity)
    with capture_logs() as logged:
        await soon(lambda: subscriber.updates)
        subscriber.answer(1, "\x1b[2Jall is well\n" + "x" * 100_000)
        for _ in range(100):
            subscriber.answer(1, "again")
        (subscription,) = identity.store.subscriptions
        await soon(lambda: subscription.error == "again")
    (entry,) = logged
    assert entry["error"].startswith("\N{REPLACEMENT CHARACTER}[2Jall is well")
    assert entry["error"].isprintable()
    assert len(entry["error"]) == 500
    subscriber.end()
    await subscriber.running


async def test_a_withdrawal_is_the_generation_and_that_for_whoever_comes_when(
    identity: Identity,
) -> None:
    early = _Subscriber(identity)
    await soon(lambda: early.updates)
    await identity.deprovision()
    late = _Subscriber(identity)
    await soon(lambda: late.updates and len(early.updates) == 2)
    withdrawn = pb.IdentityUpdate(generation=2, withdrawn=True)
    assert early.updates[1:] == late.updates == [withdrawn]
    early.answer(2)
    await soon(lambda: identity.store.subscriptions[0].acked_generation == 2)
    await identity.reinstate()
    await identity.renew()
    await soon(lambda: len(late.updates) == 2)
    assert (late.updates[1].generation, late.updates[1].withdrawn) == (3, False)
    assert late.updates[1].certificate_chain
    early.end()
    late.end()
    await asyncio.gather(early.running, late.running)


async def test_a_revoked_key_is_named_beside_the_certificate(identity: Identity) -> None:
    subscriber = _Subscriber(identity)
    await soon(lambda: subscriber.updates)
    revoked = subscriber.updates[0].key_id
    await identity.revoke(KeyId(revoked))
    await identity.renew()
    await soon(lambda: len(subscriber.updates) == 3)
    assert [list(update.revoked_key_ids) for update in subscriber.updates] == [
        *([], [revoked], [revoked])
    ]
    assert subscriber.updates[2].key_id != revoked
    subscriber.end()
    await subscriber.running
