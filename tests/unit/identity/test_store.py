"""Snapshots and who has acknowledged which."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from sidecar.core.chain import CertificateChain
from sidecar.core.schemes import SignatureScheme
from sidecar.identity.snapshot import Snapshot
from sidecar.identity.store import SnapshotStore, Subscription
from sidecar.token.base import KeyId, Origin
from tests.fixtures.clock import START
from tests.fixtures.enrolment import SPIFFE_ID
from tests.fixtures.waiting import settle


def snapshot(generation: int) -> Snapshot:
    chain = CertificateChain((b"leaf",), "1", START, START + timedelta(minutes=20))
    schemes = (SignatureScheme.ECDSA_SECP256R1_SHA256,)
    key_id = KeyId(bytes([generation]))
    return Snapshot(generation, SPIFFE_ID, key_id, Origin.BORN, schemes, chain, (), "ca")


@pytest.fixture
def store() -> SnapshotStore:
    return SnapshotStore()


async def _acknowledge(subscription: Subscription, generation: int) -> None:
    assert (await subscription.next()).generation == generation
    subscription.answer(generation, "")


async def test_before_the_first_snapshot_there_is_none(store: SnapshotStore) -> None:
    assert store.current is None
    assert store.generation == 0


async def test_who_subscribes_late_gets_the_current_snapshot_at_once(store: SnapshotStore) -> None:
    store.publish(snapshot(1))
    with store.subscribe() as subscription:
        assert await subscription.next() == snapshot(1)


async def test_who_subscribes_early_waits_for_the_first_snapshot(store: SnapshotStore) -> None:
    with store.subscribe() as subscription:
        waiting = asyncio.create_task(subscription.next())
        await settle()
        assert not waiting.done()
        store.publish(snapshot(1))
        assert await waiting == snapshot(1)


async def test_a_snapshot_is_delivered_once_and_skipped_ones_are_not(store: SnapshotStore) -> None:
    with store.subscribe() as subscription:
        for generation in (1, 2, 3):
            store.publish(snapshot(generation))
        assert (await subscription.next()).generation == 3
        waiting = asyncio.create_task(subscription.next())
        await settle()
        assert not waiting.done()
        waiting.cancel()


async def test_a_subscription_says_who_follows_what(store: SnapshotStore) -> None:
    with store.subscribe(), store.subscribe("sds", "ROOTCA"):
        followed = [(s.kind, s.resource) for s in store.subscriptions]
    assert followed == [("module", ""), ("sds", "ROOTCA")]


async def test_without_subscribers_everything_is_acknowledged(store: SnapshotStore) -> None:
    store.publish(snapshot(1))
    await store.acknowledged(1)


async def test_all_live_subscribers_have_to_acknowledge(store: SnapshotStore) -> None:
    store.publish(snapshot(1))
    with store.subscribe() as first, store.subscribe() as second:
        waiting = asyncio.create_task(store.acknowledged(1))
        await _acknowledge(first, 1)
        await settle()
        assert not waiting.done()
        await _acknowledge(second, 1)
        await waiting


async def test_a_subscriber_that_leaves_is_not_waited_for(store: SnapshotStore) -> None:
    store.publish(snapshot(1))
    with store.subscribe() as first:
        await _acknowledge(first, 1)
        with store.subscribe():
            waiting = asyncio.create_task(store.acknowledged(1))
            await settle()
            assert not waiting.done()
        await waiting
    assert store.subscriptions == ()


async def test_a_later_acknowledgement_counts_for_the_generations_before(
    store: SnapshotStore,
) -> None:
    with store.subscribe() as subscription:
        for generation in (1, 2):
            store.publish(snapshot(generation))
        await _acknowledge(subscription, 2)
        await store.acknowledged(1)


async def test_a_refusal_acknowledges_nothing(store: SnapshotStore) -> None:
    with store.subscribe() as subscription:
        store.publish(snapshot(1))
        await _acknowledge(subscription, 1)
        store.publish(snapshot(2))
        await subscription.next()
        subscription.answer(2, "the chain does not verify")
        assert subscription.acked_generation == 1
        assert subscription.error == "the chain does not verify"
        waiting = asyncio.create_task(store.acknowledged(2))
        await settle()
        assert not waiting.done()
        subscription.answer(2, "")
        await waiting
        assert not subscription.error


async def test_an_answer_about_what_was_never_delivered_is_ignored(store: SnapshotStore) -> None:
    with store.subscribe() as subscription:
        subscription.answer(2**64 - 1, "")
        store.publish(snapshot(1))
        subscription.answer(1, "not delivered yet")
        assert (subscription.acked_generation, subscription.error) == (0, "")
        await _acknowledge(subscription, 1)


async def test_an_answer_about_an_older_generation_takes_nothing_back(
    store: SnapshotStore,
) -> None:
    with store.subscribe() as subscription:
        for generation in (1, 2):
            store.publish(snapshot(generation))
            await _acknowledge(subscription, generation)
        subscription.answer(1, "too late")
        assert (subscription.acked_generation, subscription.error) == (2, "")
