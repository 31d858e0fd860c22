"""Which keys may sign, and how the others end."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from sidecar.core.chain import CertificateChain
from sidecar.core.lease import LeaseTerms
from sidecar.core.purpose import SigningPurpose
from sidecar.errors import TokenUnavailable
from sidecar.identity import keyring as module
from sidecar.identity.keyring import HANDSHAKE_TIMEOUT, Keyring
from sidecar.identity.leases import Leases
from sidecar.identity.snapshot import KeyGrant
from sidecar.identity.store import SnapshotStore
from sidecar.token.base import KeyId
from tests.fixtures.enrolment import World
from tests.fixtures.requests import ALGORITHM, SCHEME
from tests.fixtures.waiting import settle, soon
from tests.unit.identity.test_store import snapshot


class _Ring:
    """A keyring with its store and a way to make granted keys."""

    def __init__(self, world: World, handshake_timeout: timedelta = timedelta(0)) -> None:
        self.world = world
        self.store = SnapshotStore()
        self.leases = Leases(LeaseTerms(), world.clock.reading, world.clock.boot)
        self.keyring = Keyring(
            world.destruction, self.store, world.clock, self.leases, handshake_timeout
        )

    async def admit(self, lifetime: timedelta = timedelta(minutes=20)) -> KeyId:
        key = await self.world.executor.run(lambda: self.world.token.generate(ALGORITHM, "key"))
        not_after = self.world.clock() + lifetime
        purposes = frozenset(SigningPurpose)
        chain = CertificateChain((key.id.value,), "0a", self.world.clock(), not_after)
        self.leases.begin(key.id, chain)
        self.keyring.admit(
            KeyGrant(key.id, "default", purposes, frozenset([SCHEME]), not_after, ())
        )
        return key.id

    async def gone(self, key_id: KeyId) -> None:
        await soon(lambda: key_id not in self.world.token.held_keys, "the key is destroyed")


@pytest.fixture
def ring(world: World) -> _Ring:
    return _Ring(world)


async def test_an_unknown_key_has_no_grant(ring: _Ring) -> None:
    assert ring.keyring.grant(KeyId(b"unknown")) is None


async def test_a_grant_ends_with_its_certificate(ring: _Ring) -> None:
    key_id = await ring.admit(timedelta(minutes=20))
    assert ring.keyring.grant(key_id)
    ring.world.clock.advance(timedelta(minutes=20, microseconds=-1))
    assert ring.keyring.grant(key_id)
    ring.world.clock.advance(timedelta(microseconds=1))
    assert ring.keyring.grant(key_id) is None


async def test_a_retired_key_signs_until_its_successor_is_acknowledged(ring: _Ring) -> None:
    old, new = await ring.admit(), await ring.admit()
    with ring.store.subscribe() as subscription:
        ring.store.publish(snapshot(2))
        ring.keyring.retire(old, replaced_by=2)
        await settle()
        assert ring.keyring.grant(old)
        assert old in ring.world.token.held_keys
        await subscription.next()
        subscription.answer(2, "")
        await ring.gone(old)
    assert ring.keyring.grant(old) is None
    assert ring.keyring.grant(new)
    assert ring.world.token.held_keys == {new}


async def test_a_refused_successor_keeps_the_old_key(ring: _Ring) -> None:
    old = await ring.admit()
    with ring.store.subscribe() as subscription:
        ring.store.publish(snapshot(2))
        ring.keyring.retire(old, replaced_by=2)
        await subscription.next()
        subscription.answer(2, "cannot use it")
        await settle()
        assert ring.keyring.grant(old)
        assert old in ring.world.token.held_keys


async def test_who_refused_the_successor_and_left_may_be_back_with_the_old_key(
    ring: _Ring,
) -> None:
    old = await ring.admit()
    ring.store.publish(snapshot(2))
    with ring.store.subscribe() as subscription:
        await subscription.next()
        subscription.answer(2, "cannot use it")
    ring.keyring.retire(old, replaced_by=2)
    await settle()
    assert ring.keyring.grant(old)
    with ring.store.subscribe() as subscription:
        await subscription.next()
        subscription.answer(2, "")
        await settle()
        assert ring.keyring.grant(old), "another one's acknowledgement says nothing about him"
    ring.keyring.retire(await ring.admit(), replaced_by=3)
    assert old in ring.world.token.held_keys


async def test_who_comes_back_within_a_handshakes_time_counts(world: World) -> None:
    ring = _Ring(world, handshake_timeout=timedelta(milliseconds=50))
    old = await ring.admit()
    ring.store.publish(snapshot(2))
    ring.keyring.retire(old, replaced_by=2)
    await settle()
    with ring.store.subscribe() as subscription:
        await subscription.next()
        await asyncio.sleep(0.1)
        assert ring.keyring.grant(old)
        subscription.answer(2, "")
        await ring.gone(old)


async def test_handshakes_in_flight_get_their_time_after_the_acknowledgement(world: World) -> None:
    ring = _Ring(world, handshake_timeout=timedelta(hours=1))
    old = await ring.admit(timedelta(hours=2))
    ring.keyring.retire(old, replaced_by=1)
    await settle()
    assert ring.keyring.grant(old)
    assert timedelta(seconds=5) <= HANDSHAKE_TIMEOUT <= timedelta(minutes=1)
    await ring.keyring.close()


async def test_expiry_ends_a_retirement_that_nobody_acknowledges(
    ring: _Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK", timedelta(milliseconds=10))
    old = await ring.admit(timedelta(hours=1))
    with ring.store.subscribe():
        ring.store.publish(snapshot(2))
        ring.keyring.retire(old, replaced_by=2)
        await settle()
        assert old in ring.world.token.held_keys
        # As after a suspend: no timer has moved.
        ring.world.clock.jump(timedelta(hours=1))
        await ring.gone(old)
    assert ring.keyring.grant(old) is None


async def test_a_key_that_expired_before_its_retirement_is_destroyed_at_once(ring: _Ring) -> None:
    old = await ring.admit(timedelta(minutes=1))
    ring.world.clock.advance(timedelta(hours=1))
    with ring.store.subscribe():
        ring.store.publish(snapshot(2))
        ring.keyring.retire(old, replaced_by=2)
        await ring.gone(old)


async def test_closing_destroys_every_key_at_once(world: World) -> None:
    ring = _Ring(world, handshake_timeout=timedelta(hours=1))
    old, new = await ring.admit(), await ring.admit()
    ring.keyring.retire(old, replaced_by=1)
    await settle()
    await ring.keyring.close()
    assert not world.token.held_keys
    assert ring.keyring.grant(old) is None
    assert ring.keyring.grant(new) is None


async def test_a_key_signs_no_more_though_the_token_could_not_destroy_it(ring: _Ring) -> None:
    old = await ring.admit()
    ring.world.token.available = False
    ring.keyring.retire(old, replaced_by=1)
    await soon(lambda: ring.keyring.grant(old) is None)


async def test_what_could_not_be_destroyed_is_destroyed_with_the_next_key(
    ring: _Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await ring.admit(), await ring.admit()
    failed: list[KeyId] = []

    def refuse(key_id: KeyId) -> None:
        failed.append(key_id)
        raise TokenUnavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr(ring.world.token, "destroy", refuse)
        ring.keyring.retire(first, replaced_by=1)
        await soon(lambda: failed)
    ring.keyring.retire(second, replaced_by=1)
    await ring.gone(second)
    await ring.gone(first)


async def test_what_could_not_be_destroyed_is_destroyed_at_closing(ring: _Ring) -> None:
    key_id = await ring.admit()
    ring.world.token.available = False
    await ring.keyring.close()
    assert ring.world.token.held_keys == {key_id}
    ring.world.token.available = True
    await ring.keyring.close()
    assert not ring.world.token.held_keys
