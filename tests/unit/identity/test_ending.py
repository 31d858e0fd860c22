"""An identity that is deprovisioned, and reinstated."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.key_label import AUDIT, TLS, KeyLabel
from sidecar.core.rotation import Health
from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import (
    AuthorityUnavailable,
    IdentityDeprovisioned,
    NotDeprovisioned,
    StateUnwritable,
)
from sidecar.identity.ended import Ended
from sidecar.identity.saved import SavedCertificates, SavedIdentity
from sidecar.identity.snapshot import Snapshot, Withdrawal
from sidecar.identity.tombstones import DAMAGED, FileTombstones, StillValid
from sidecar.token.base import KeyId, TokenKey
from tests.fixtures.clock import START
from tests.fixtures.enrolment import LIFETIME, OWNER, SPIFFE_ID, World
from tests.fixtures.journal import RememberedJournal
from tests.fixtures.living import published, running
from tests.fixtures.waiting import settle, soon

pytestmark = pytest.mark.usefixtures("short_ticks")


@pytest.fixture
def journal() -> RememberedJournal:
    return RememberedJournal()


@pytest.fixture
async def world(tmp_path: Path, journal: RememberedJournal) -> AsyncIterator[World]:
    made = World(tmp_path, journal=journal, tombstones=FileTombstones(tmp_path / "state"))
    yield made
    made.executor.close()


async def _made(world: World, label: str) -> TokenKey:
    return await world.executor.run(lambda: world.token.generate(KeyAlgorithm.EC_P256, label))


async def test_nothing_is_signed_from_the_first_moment_on(world: World) -> None:
    identity = world.identity()
    snapshot = await published(identity)
    with identity.store.subscribe() as subscription:
        await subscription.next()
        ending = asyncio.ensure_future(identity.deprovision())
        # One step of the loop, in which nothing else has come back: disk and token are slower.
        await asyncio.sleep(0)
        assert not ending.done()
        assert identity.keyring.grant(snapshot.key_id) is None
        assert not identity.keyring.holds(snapshot.key_id)
        assert await subscription.next() == Withdrawal(2)
        await ending
    assert identity.store.current is None
    assert identity.health is Health.DEPROVISIONED
    assert identity.next_renewal is None


async def test_the_report_says_what_is_gone_and_what_is_left_to_do(world: World) -> None:
    identity = world.identity()
    snapshot = await published(identity)
    ended = await identity.deprovision()
    assert ended.cleared.destroyed == (snapshot.key_id,)
    assert ended.cleared.spared == ()
    assert ended.certificates == (
        StillValid(
            snapshot.key_id,
            snapshot.chain.serial,
            world.authority.root.certificate.subject.rfc4514_string(),
            snapshot.chain.not_after,
        ),
    )
    assert ended.tombstone == str(world.directory / "state" / "default.deprovisioned")
    assert ended.problems == ()
    assert world.token.held_keys == set()
    world.clock.advance(LIFETIME)
    assert (await identity.deprovision()).certificates == ()


async def test_every_key_with_our_mark_goes_and_no_other(world: World) -> None:
    identity = world.identity()
    old = await published(identity)
    with identity.store.subscribe():
        await identity.renew()
        labels = [
            str(KeyLabel(TLS, OWNER, 7, "left by an earlier start")),
            str(KeyLabel(TLS, "ffffffff", 1, str(SPIFFE_ID))),
            str(KeyLabel(AUDIT, OWNER, 1, "")),
            "the application's",
        ]
        made = [await _made(world, label) for label in labels]
        assert old.key_id in world.token.held_keys
        ended = await identity.deprovision()
    assert len(ended.cleared.destroyed) == 3
    assert world.token.held_keys == {key.id for key in made[1:]}


async def test_both_certificates_of_a_rotation_are_named(world: World) -> None:
    identity = world.identity()
    old = await published(identity)
    with identity.store.subscribe():
        new = await published(identity)
        ended = await identity.deprovision()
    assert {each.serial for each in ended.certificates} == {old.chain.serial, new.chain.serial}


async def test_the_tombstone_is_durable_before_a_key_is_destroyed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = world.identity()
    await published(identity)
    seen: list[bool] = []
    destroy = world.token.destroy

    def noted(key_id: KeyId) -> None:
        seen.append(world.tombstones.deprovisioned("default") is not None)
        destroy(key_id)

    monkeypatch.setattr(world.token, "destroy", noted)
    await identity.deprovision()
    assert seen == [True]


@pytest.mark.parametrize("on_command", [True, False], ids=["on command", "when due"])
async def test_a_renewal_in_flight_ends_without_a_certificate_and_its_key_is_destroyed(
    world: World, on_command: bool
) -> None:
    identity = world.identity()
    await published(identity)
    world.authority.open.clear()
    async with running(identity):
        renewing = asyncio.create_task(identity.renew()) if on_command else None
        world.clock.advance(LIFETIME / 2)
        await soon(lambda: len(world.authority.requests) == 2)
        ended = await identity.deprovision()
        assert len(ended.cleared.destroyed) + 1 == 2
        assert world.token.held_keys == set()
        world.authority.open.set()
        if renewing:
            with pytest.raises(IdentityDeprovisioned, match="meshkey reinstate default"):
                await renewing
        await settle()
        assert identity.store.newest == Withdrawal(2)
        assert identity.renewals.failed == 0


async def test_a_certificate_that_comes_in_the_same_moment_is_not_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = world.identity()
    await published(identity)
    obtain = world.guarded.obtain

    async def ended_meanwhile(*arguments: Any) -> Any:
        answer: Any = await obtain(*arguments)
        identity.ending.stop()
        return answer

    monkeypatch.setattr(world.guarded, "obtain", ended_meanwhile)
    with pytest.raises(IdentityDeprovisioned):
        await identity.renew()
    assert identity.store.newest == Withdrawal(2)
    assert identity.keyring.grants == ()
    await identity.deprovision()
    assert world.token.held_keys == set()


async def test_who_is_deprovisioned_is_not_renewed(world: World) -> None:
    identity = world.identity()
    await published(identity)
    async with running(identity):
        await identity.deprovision()
        with pytest.raises(IdentityDeprovisioned):
            await identity.renew()
        world.clock.advance(LIFETIME * 3)
        looks = itertools.count()
        await soon(lambda: next(looks) > 3)
        assert len(world.authority.requests) == 1
        assert identity.health is Health.DEPROVISIONED
        assert identity.last_error == ""


async def test_a_restart_does_not_bring_it_back_and_clears_away_what_a_crash_left(
    world: World,
) -> None:
    state = SavedCertificates(world.directory / "state")
    before = world.identity()
    snapshot = await published(before)
    before.ending.stop()
    # The process dies with the tombstone written and nothing else.
    await asyncio.to_thread(
        world.tombstones.deprovision, "default", before.ending.deprovisioned or DAMAGED
    )
    state.save("default", SavedIdentity(snapshot.key_id, (b"leaf",), START))
    identity = world.identity()
    assert identity.store.newest == Withdrawal(1)
    async with running(identity):
        await soon(lambda: not world.token.held_keys, "the key is gone")
        await settle()
        assert len(world.authority.requests) == 1
    ended = await identity.deprovision()
    assert [each.serial for each in ended.certificates] == [snapshot.chain.serial]


async def test_a_damaged_tombstone_is_one(world: World) -> None:
    (world.directory / "state" / "default.deprovisioned").mkdir()
    identity = world.identity()
    async with running(identity):
        await settle()
        assert identity.health is Health.DEPROVISIONED
        assert not world.authority.requests


async def test_what_the_token_would_not_let_go_of_is_said_and_tried_again(world: World) -> None:
    identity = world.identity()
    snapshot = await published(identity)
    world.token.available = False
    ended = await identity.deprovision()
    assert ended.cleared.destroyed == ()
    assert ended.problems == (
        "not known which keys are left on the token: token 'fake' is not there",
    )
    assert identity.keyring.grant(snapshot.key_id) is None
    async with running(identity):
        world.token.available = True
        await soon(lambda: not world.token.held_keys, "the key is gone")


async def test_a_key_that_a_search_still_finds_is_not_reported_as_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = world.identity()
    snapshot = await published(identity)
    monkeypatch.setattr(world.token, "destroy", lambda _key_id: None)
    ended = await identity.deprovision()
    assert ended.cleared.destroyed == ()
    assert ended.problems == (f"key {snapshot.key_id} is still on the token; see the log",)


async def test_the_death_of_a_key_is_recorded_once_however_often_its_end_is_asked_for(
    world: World, journal: RememberedJournal
) -> None:
    identity = world.identity()
    old = await published(identity)
    with identity.store.subscribe():
        new = await published(identity)
        await identity.revoke(old.key_id)
        await identity.deprovision()
        await identity.revoke(old.key_id)
        await identity.deprovision()
    destroyed = [facts["key_id"] for event, facts in journal.records if event == "key destroyed"]
    assert sorted(destroyed) == sorted([str(old.key_id), str(new.key_id)])


async def test_a_disk_that_fails_does_not_keep_the_keys(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = world.identity()
    await published(identity)

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(world.tombstones, "deprovision", full)
        ended = await identity.deprovision()
    assert ended.problems == ("its tombstone is not written: No space left on device",)
    assert ended.tombstone == ""
    assert world.token.held_keys == set()
    async with running(identity):
        await soon(lambda: world.tombstones.deprovisioned("default"), "it is tried again")


async def test_a_given_key_is_left_where_it_is(world: World) -> None:
    # Even with our mark on it, as when an earlier configuration let us make it.
    label = str(KeyLabel(TLS, OWNER, 1, str(SPIFFE_ID)))
    key = await _made(world, label)
    world.given = key.id
    identity = world.identity()
    await published(identity)
    ended = await identity.deprovision()
    assert (ended.cleared.destroyed, ended.cleared.spared) == ((), (key.id,))
    assert world.token.held_keys == {key.id}
    assert identity.keyring.grant(key.id) is None


async def test_another_key_under_the_name_of_ours_is_not_destroyed(world: World) -> None:
    identity = world.identity()
    snapshot = await published(identity)
    identity.keyring.distrust(snapshot.key_id)
    ended = await identity.deprovision()
    assert (ended.cleared.destroyed, ended.cleared.spared) == ((), (snapshot.key_id,))
    assert world.token.held_keys == {snapshot.key_id}


async def test_who_is_reinstated_enrols_anew_with_a_new_key(
    world: World, journal: RememberedJournal
) -> None:
    identity = world.identity()
    async with running(identity):
        await soon(lambda: identity.store.current)
        old = identity.store.current
        assert old
        with identity.store.subscribe() as subscription:
            await subscription.next()
            await identity.deprovision()
            assert await subscription.next() == Withdrawal(2)
            await identity.reinstate()
            new = await subscription.next()
        assert isinstance(new, Snapshot)
        assert (new.generation, new.key_id != old.key_id) == (3, True)
        assert identity.keyring.grant(new.key_id)
        assert identity.health is Health.VALID
    assert world.tombstones.deprovisioned("default") is None
    events = [event for event in journal.events if event.startswith(("identity", "key d"))]
    assert events == ["identity deprovisioned", "key destroyed", "identity reinstated"]
    facts = journal.facts("identity deprovisioned")
    assert facts["key_ids"] == [str(old.key_id)]
    assert facts["certificates"][0]["serial"] == old.chain.serial


async def test_only_who_is_deprovisioned_can_be_reinstated(world: World) -> None:
    identity = world.identity()
    with pytest.raises(NotDeprovisioned, match="'default' is not deprovisioned"):
        await identity.reinstate()


async def test_a_tombstone_that_cannot_be_removed_goes_on_ending(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = world.identity()
    await published(identity)
    await identity.deprovision()

    def failed(_name: str) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(world.tombstones, "reinstate", failed)
    with pytest.raises(StateUnwritable, match="Read-only file system"):
        await identity.reinstate()
    with pytest.raises(IdentityDeprovisioned):
        await identity.renew()


async def test_of_commands_at_the_same_time_the_last_one_counts(world: World) -> None:
    identity = world.identity()
    await published(identity)
    async with running(identity):
        commands: list[asyncio.Future[object]] = [
            asyncio.ensure_future(command())
            for command in (
                identity.renew,
                identity.deprovision,
                identity.reinstate,
                identity.renew,
                identity.deprovision,
            )
        ]
        done = await asyncio.gather(*commands, return_exceptions=True)
        assert isinstance(done[-1], Ended)
        assert identity.ending.deprovisioned
        assert identity.keyring.grants == ()
        assert world.token.held_keys == set()
        assert world.tombstones.deprovisioned("default")


async def test_a_first_certificate_that_never_came_can_be_given_up(world: World) -> None:
    identity = world.identity()
    world.authority.failures.append(AuthorityUnavailable("the CA is gone"))
    with pytest.raises(AuthorityUnavailable):
        await identity.renew()
    world.clock.advance(timedelta(seconds=1))
    ended = await identity.deprovision()
    assert (ended.certificates, ended.problems) == ((), ())
    assert identity.store.newest == Withdrawal(1)
