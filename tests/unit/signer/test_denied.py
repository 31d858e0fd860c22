"""What callers of the signer get to know of the deny list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.core.deny_list import WhenStale
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.rpc.quiet import Quiet
from sidecar.signer.signatures import Signatures
from sidecar.signer.watch import follow
from sidecar.token.base import KeyId
from sidecar.token.executor import Caller
from tests.fakes.callers import everything_of
from tests.fixtures.deny_lists import OTHER, PEER, DenyWorld, deny_list
from tests.fixtures.enrolment import SPIFFE_ID, World
from tests.fixtures.requests import sign_request
from tests.fixtures.waiting import soon


@pytest.fixture
def lists(tmp_path: Path) -> DenyWorld:
    return DenyWorld(tmp_path)


async def _identity(world: World, lists: DenyWorld, when_stale: WhenStale) -> Identity:
    world.denials = await lists.life(when_stale)
    identity = world.identity()
    await identity.renew()
    return identity


async def _answer(world: World, identity: Identity, key_id: KeyId | None = None) -> pb.SignResponse:
    signatures = Signatures(IdentityRegistry([identity]), world.token, world.executor)
    answered: asyncio.Future[pb.SignResponse] = asyncio.get_running_loop().create_future()
    assert identity.store.current
    request = sign_request(key_id or identity.store.current.key_id)
    signatures.begin(request, answered.set_result, Caller(), everything_of("default"))
    return await answered


async def test_past_the_next_update_refuse_tells_to_retry_with_the_reason(
    world: World, lists: DenyWorld
) -> None:
    lists.put(deny_list(1, PEER))
    identity = await _identity(world, lists, WhenStale.REFUSE)
    assert (await _answer(world, identity)).signature
    before = world.token.signatures
    lists.clock.advance(timedelta(hours=1))
    with capture_logs() as logged:
        answer = await _answer(world, identity)
    assert answer.retry.reason == pb.Retry.REASON_TOKEN_UNAVAILABLE
    assert answer.retry.detail == (
        "the deny list is stale since 2030-01-01T13:00:00Z, "
        "and nothing is signed without a newer one"
    )
    assert world.token.signatures == before
    # The one who follows the list has said it, once.
    assert logged == []


async def test_past_the_next_update_keep_goes_on_signing(world: World, lists: DenyWorld) -> None:
    lists.put(deny_list(1, PEER))
    identity = await _identity(world, lists, WhenStale.KEEP)
    lists.clock.advance(timedelta(hours=1))
    assert (await _answer(world, identity)).signature


async def test_an_identity_that_is_denied_is_refused_and_nobody_learns_more_of_other_keys(
    world: World, lists: DenyWorld
) -> None:
    lists.put(deny_list(4, PEER, SPIFFE_ID))
    identity = await _identity(world, lists, WhenStale.KEEP)
    before = world.token.signatures
    answer = await _answer(world, identity)
    assert answer.refusal.reason == pb.Refusal.REASON_LEASE
    assert answer.refusal.detail.startswith(f"{SPIFFE_ID} is on the deny list of sequence 4: ")
    assert world.token.signatures == before
    unknown = await _answer(world, identity, KeyId(b"another"))
    assert unknown.refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY


async def test_an_update_carries_the_list_and_another_list_is_an_update_at_once(
    world: World, lists: DenyWorld
) -> None:
    lists.put(deny_list(1))
    identity = await _identity(world, lists, WhenStale.KEEP)
    updates: list[pb.IdentityUpdate] = []

    async def silence() -> AsyncIterator[pb.WatchRequest]:
        await asyncio.Event().wait()
        yield pb.WatchRequest()

    async def write(update: pb.IdentityUpdate) -> None:
        updates.append(update)

    following = asyncio.create_task(follow(identity, silence(), write, Quiet(time.monotonic)))
    await soon(lambda: updates)
    assert updates[0].denied_peers == pb.DeniedPeers(sequence=1)
    assert updates[0].HasField("denied_peers")
    lists.put(deny_list(2, PEER, OTHER))
    identity.publisher.denials = await lists.life()
    identity.publisher.publish_denied()
    await soon(lambda: len(updates) == 2)
    assert updates[1].denied_peers == pb.DeniedPeers(sequence=2, spiffe_ids=[str(PEER), str(OTHER)])
    assert updates[1].generation == updates[0].generation + 1
    for each in updates:
        each.ClearField("denied_peers")
        each.ClearField("generation")
    assert updates[0] == updates[1]
    following.cancel()
