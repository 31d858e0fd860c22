"""One key that is revoked: in use, being retired, or given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.core.rotation import Health
from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import AuthorityUnavailable, KeyRevoked, UnknownKey
from sidecar.identity.registry import IdentityRegistry
from sidecar.identity.snapshot import Snapshot
from sidecar.identity.tombstones import FileTombstones, Tombstone
from sidecar.token.base import KeyId
from tests.fixtures.enrolment import LIFETIME, World
from tests.fixtures.journal import RememberedJournal
from tests.fixtures.living import published, running
from tests.fixtures.waiting import soon

pytestmark = pytest.mark.usefixtures("short_ticks")


@pytest.fixture
def journal() -> RememberedJournal:
    return RememberedJournal()


@pytest.fixture
async def world(tmp_path: Path, journal: RememberedJournal) -> AsyncIterator[World]:
    made = World(tmp_path, journal=journal, tombstones=FileTombstones(tmp_path / "state"))
    yield made
    made.executor.close()


async def test_the_key_in_use_is_replaced_at_once(world: World, journal: RememberedJournal) -> None:
    identity = world.identity()
    async with running(identity):
        await soon(lambda: identity.store.current)
        old = identity.store.current
        assert old
        with identity.store.subscribe() as subscription:
            await subscription.next()
            revoking = asyncio.ensure_future(identity.revoke(old.key_id))
            await asyncio.sleep(0)
            assert not revoking.done()
            assert not identity.keyring.holds(old.key_id)
            told = await subscription.next()
            assert told == replace(old, generation=2, revoked=(old.key_id,))
            ended = await revoking
            new = await subscription.next()
        assert isinstance(new, Snapshot)
        assert new.key_id != old.key_id
        assert new.revoked == (old.key_id,)
        assert identity.keyring.grant(new.key_id)
        assert world.token.held_keys == {new.key_id}
    assert ended.cleared.destroyed == (old.key_id,)
    assert [each.serial for each in ended.certificates] == [old.chain.serial]
    assert ended.tombstone.endswith(f"/state/{old.key_id}.revoked")
    facts = journal.facts("key revoked")
    assert (facts["identity"], facts["key_id"]) == ("default", str(old.key_id))


async def test_a_key_that_is_being_retired_ends_at_once(world: World) -> None:
    identity = world.identity()
    old = await published(identity)
    with identity.store.subscribe():
        new = await published(identity)
        assert identity.keyring.grant(old.key_id)
        await identity.revoke(old.key_id)
        assert world.token.held_keys == {new.key_id}
        assert identity.keyring.grant(new.key_id)
        assert identity.store.current == replace(new, generation=3, revoked=(old.key_id,))
        assert identity.health is Health.VALID
        assert len(world.authority.requests) == 2


async def test_subscribers_are_told_until_its_certificate_has_expired(world: World) -> None:
    identity = world.identity()
    old = await published(identity)
    await identity.revoke(old.key_id)
    world.clock.advance(LIFETIME / 2)
    assert (await published(identity)).revoked == (old.key_id,)
    world.clock.advance(LIFETIME / 2)
    assert (await published(identity)).revoked == ()


async def test_without_another_key_nothing_signs_and_that_is_said(world: World) -> None:
    identity = world.identity()
    old = await published(identity)
    world.authority.failures.append(AuthorityUnavailable("the CA is gone"))
    await identity.revoke(old.key_id)
    with pytest.raises(AuthorityUnavailable):
        await identity.renew()
    assert not identity.keyring.grants
    assert identity.health is Health.WAITING
    assert (await published(identity)).key_id != old.key_id
    (grant,) = identity.keyring.grants
    assert world.token.held_keys == {grant.key_id}


async def test_a_given_key_is_refused_for_ever_and_no_ca_is_asked(world: World) -> None:
    key = await world.executor.run(lambda: world.token.generate(KeyAlgorithm.EC_P256, "theirs"))
    world.given = key.id
    identity = world.identity()
    await published(identity)
    ended = await identity.revoke(key.id)
    assert (ended.cleared.destroyed, ended.cleared.spared) == ((), (key.id,))
    assert world.token.held_keys == {key.id}
    for each in (identity, world.identity()):
        with pytest.raises(KeyRevoked, match=f"key {key.id} was revoked"):
            await each.renew()
        assert each.keyring.grant(key.id) is None
        assert each.health is Health.WAITING
    assert len(world.authority.requests) == 1


async def test_a_given_key_that_is_revoked_while_it_is_certified_is_not_published(
    world: World,
) -> None:
    key = await world.executor.run(lambda: world.token.generate(KeyAlgorithm.EC_P256, "theirs"))
    world.given = key.id
    identity = world.identity()
    await published(identity)
    world.authority.open.clear()
    renewing = asyncio.create_task(identity.renew())
    await soon(lambda: len(world.authority.requests) == 2)
    await identity.revoke(key.id)
    world.authority.open.set()
    with pytest.raises(KeyRevoked):
        await renewing
    assert identity.keyring.grants == ()


async def test_a_restart_destroys_what_a_crash_left_and_does_not_take_it_up(
    world: World,
) -> None:
    before = world.identity()
    old = await published(before)
    # The process dies with the tombstone written and nothing else.
    tombstone = Tombstone("default", world.clock())
    await asyncio.to_thread(world.tombstones.revoke, old.key_id, tombstone)
    identity = world.identity()
    (key,) = await world.executor.run(world.token.keys)
    assert not identity._enrolment._keys.may_reuse(key)
    async with running(identity):
        await soon(lambda: old.key_id not in world.token.held_keys, "the key is gone")
        await soon(lambda: identity.store.current)
    again = await identity.revoke(old.key_id)
    assert again.problems == ()


async def test_a_tombstone_of_another_identity_in_the_same_directory_destroys_nothing(
    world: World,
) -> None:
    key = await world.executor.run(lambda: world.token.generate(KeyAlgorithm.EC_P256, "theirs"))
    await asyncio.to_thread(world.tombstones.revoke, key.id, Tombstone("edge", world.clock()))
    identity = world.identity()
    async with running(identity):
        current = await soon(lambda: identity.store.current)
        assert current
        assert current.revoked == ()
        await soon(lambda: not identity._revoking.is_owed)
    assert key.id in world.token.held_keys
    assert not identity.has(key.id)


async def test_a_damaged_tombstone_still_revokes(world: World) -> None:
    identity = world.identity()
    old = await published(identity)
    (world.directory / "state" / f"{old.key_id}.revoked").touch()
    again = world.identity()
    async with running(again):
        await soon(lambda: old.key_id not in world.token.held_keys)
        current = await soon(lambda: again.store.current)
        assert current
        # Nobody knows until when: for ever.
        assert current.revoked == (old.key_id,)


async def test_what_the_token_would_not_let_go_of_is_tried_again(world: World) -> None:
    identity = world.identity()
    old = await published(identity)
    world.token.available = False
    ended = await identity.revoke(old.key_id)
    assert ended.problems
    assert not identity.keyring.holds(old.key_id)
    world.token.available = True
    async with running(identity):
        await soon(lambda: old.key_id not in world.token.held_keys)


async def test_a_key_of_nobody_is_told_from_others_by_name_only(world: World) -> None:
    identity = world.identity()
    await published(identity)
    registry = IdentityRegistry([identity])
    nobodys = KeyId(b"\x01")
    with pytest.raises(UnknownKey, match="meshkey keys live"):
        registry.owner(nobodys)
    with pytest.raises(UnknownKey, match="meshkey keys live"):
        await identity.revoke(nobodys)


async def test_whose_key_it_is_is_known_after_its_end(world: World) -> None:
    identity = world.identity()
    old = await published(identity)
    registry = IdentityRegistry([identity])
    assert registry.owner(old.key_id) is identity
    await identity.revoke(old.key_id)
    assert registry.owner(old.key_id) is identity
    assert not registry.holds(old.key_id)
