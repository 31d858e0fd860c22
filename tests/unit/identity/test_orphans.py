"""What an earlier life left behind, and what is none of our business."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from sidecar.core.key_label import KeyLabel
from sidecar.identity import orphans as module
from sidecar.identity.orphans import Orphans
from sidecar.token.base import KeyId
from tests.fixtures.enrolment import OWNER, World
from tests.fixtures.requests import ALGORITHM
from tests.fixtures.waiting import settle, soon


async def _key(world: World, label: str) -> KeyId:
    made = await world.executor.run(lambda: world.token.generate(ALGORITHM, label))
    return made.id


def _label(owner: str = OWNER) -> str:
    return str(KeyLabel("tls", owner, 1, "spiffe://test.mesh/web"))


def _orphans(world: World, *in_use: KeyId, grace: timedelta = timedelta(0)) -> Orphans:
    return Orphans(
        OWNER,
        grace,
        world.token,
        world.executor,
        world.destruction,
        lambda key: key in in_use,
        asyncio.Lock(),
    )


async def test_only_keys_with_our_mark_that_are_not_in_use_are_destroyed(world: World) -> None:
    orphan, used = await _key(world, _label()), await _key(world, _label())
    another, foreign = await _key(world, _label("ffffffff")), await _key(world, "somebody's")
    await _orphans(world, used).sweep()
    assert world.token.held_keys == {used, another, foreign}
    assert orphan not in world.token.held_keys


async def test_they_live_through_the_grace_period(world: World) -> None:
    orphan = await _key(world, _label())
    sweeping = asyncio.create_task(_orphans(world, grace=timedelta(hours=1)).sweep())
    await soon(lambda: world.executor.pending == 0)
    await settle()
    assert not sweeping.done()
    assert world.token.held_keys == {orphan}
    sweeping.cancel()


async def test_a_key_that_is_taken_up_meanwhile_stays(world: World) -> None:
    orphan = await _key(world, _label())
    in_use: set[KeyId] = set()
    orphans = Orphans(
        OWNER,
        timedelta(milliseconds=50),
        world.token,
        world.executor,
        world.destruction,
        lambda key: key in in_use,
        asyncio.Lock(),
    )
    sweeping = asyncio.create_task(orphans.sweep())
    await soon(lambda: world.executor.pending == 0)
    in_use.add(orphan)
    await sweeping
    assert world.token.held_keys == {orphan}


async def test_a_token_that_comes_late_is_swept_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.01)
    await _key(world, _label())
    world.token.available = False
    sweeping = asyncio.create_task(_orphans(world).sweep())
    await settle()
    world.token.available = True
    await sweeping
    assert not world.token.held_keys


async def test_a_key_that_waits_for_its_certificate_is_no_orphan(world: World) -> None:
    world.authority.open.clear()
    identity = world.identity()
    renewing = asyncio.create_task(identity.renew())
    await soon(lambda: world.authority.requests)
    orphans = Orphans(
        OWNER,
        timedelta(0),
        world.token,
        world.executor,
        world.destruction,
        identity.keyring.holds,
        identity.renewing,
    )
    sweeping = asyncio.create_task(orphans.sweep())
    await settle()
    world.authority.open.set()
    await renewing
    await sweeping
    assert identity.store.current
    assert world.token.held_keys == {identity.store.current.key_id}
