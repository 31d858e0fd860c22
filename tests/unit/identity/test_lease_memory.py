"""A restart goes on under the lease of before, or signs nothing until a CA has answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from sidecar.core.lease import LeaseNote, LeaseTerms
from sidecar.errors import AuthorityError, AuthorityUnavailable, SigningRefused
from sidecar.identity import identity as module
from sidecar.identity import lease_memory
from sidecar.identity.identity import Identity
from sidecar.identity.memory import TAKEN_UP, NoMemory
from sidecar.identity.saved_leases import SavedLeases
from sidecar.identity.snapshot import Snapshot
from tests.fixtures.clock import START
from tests.fixtures.enrolment import World
from tests.fixtures.waiting import settle, soon

LENGTH, GRACE = timedelta(minutes=10), timedelta(minutes=4)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


@pytest.fixture
def world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """One whose identities remember, with leases shorter than their certificates."""
    monkeypatch.setattr(module, "_TICK_S", 0.01)
    world.terms = LeaseTerms(LENGTH, GRACE)
    world.memory = world.saved_memory
    return world


@asynccontextmanager
async def _start(world: World, *, killed: bool = False) -> AsyncIterator[Identity]:
    """One life of the process, until it has decided what to take up."""
    identity = world.identity()
    running = asyncio.create_task(identity.run())
    await soon(identity.begun.is_set)
    try:
        yield identity
    finally:
        running.cancel()
        await asyncio.wait([running])
        if not killed:
            await identity.close()


async def _life(world: World) -> Snapshot:
    async with _start(world) as identity:
        await soon(lambda: _note(world) and identity.store.current)
        assert identity.store.current
        return identity.store.current


def _note(world: World) -> LeaseNote | None:
    return SavedLeases(world.state).load("default")


def _taken(identity: Identity) -> bool:
    current = identity.store.current
    return current is not None and current.authority == TAKEN_UP


async def test_a_restart_in_the_same_boot_keeps_the_deadline(world: World) -> None:
    first = await _life(world)
    world.clock.advance(4 * MINUTE)
    async with _start(world) as identity:
        await soon(lambda: _taken(identity))
        assert identity.lease_end == START + LENGTH
        assert identity.next_renewal == START + LENGTH / 2
        world.authority.available = False
        world.clock.advance(6 * MINUTE)
        with pytest.raises(SigningRefused, match="no CA has issued a certificate since 2030"):
            identity.keyring.grant(first.key_id)


async def test_after_a_reboot_it_goes_on_with_what_was_left(world: World) -> None:
    await _life(world)
    world.boot_id = "second boot"
    world.clock.reboot(after=4 * MINUTE)
    async with _start(world) as identity:
        await soon(lambda: _taken(identity))
        assert identity.lease_end == START + LENGTH
    assert len(world.authority.requests) == 1


async def _not_used(world: World, reason: str) -> None:
    """Nothing of before is signed with, and a CA that answers ends that."""
    asked = len(world.authority.requests)
    world.authority.open.clear()
    with capture_logs() as logs:
        async with _start(world) as identity:
            await soon(lambda: len(world.authority.requests) == asked + 1)
            assert identity.store.generation == 0
            world.authority.open.set()
            await soon(lambda: identity.store.current)
            assert identity.store.current
            assert identity.store.current.authority == "fake"
            assert identity.keyring.grant(identity.store.current.key_id)
    reasons = [e["reason"] for e in logs if e["event"] == "saved certificate not used"]
    assert len(reasons) == 1
    assert reason in reasons[0]
    # What is on the disk now is good again.
    async with _start(world) as again:
        await soon(lambda: _taken(again))


@pytest.mark.parametrize("boot_id", ["first boot", "second boot", ""])
async def test_a_wall_clock_below_the_mark_waits_for_the_ca(world: World, boot_id: str) -> None:
    await _life(world)
    world.boot_id = boot_id
    world.clock.jump(-SECOND)
    await _not_used(world, "see that the clock is right")


async def test_a_lease_that_ended_while_nothing_ran_waits_for_the_ca(world: World) -> None:
    await _life(world)
    world.clock.advance(LENGTH)
    await _not_used(world, "no CA has issued a certificate since 2030-01-01T12:00:00")


def _missing(world: World) -> None:
    (world.state / "default.lease").unlink()


def _torn(world: World) -> None:
    file = world.state / "default.lease"
    file.write_bytes(file.read_bytes()[:-5])


def _longer(world: World) -> None:
    file = world.state / "default.lease"
    length = f'"length":{LENGTH // timedelta(microseconds=1)}'.encode()
    assert length in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(length, length + b"0"))


@pytest.mark.parametrize("spoil", [_missing, _torn, _longer])
async def test_without_its_lease_a_certificate_is_of_no_use(
    world: World, spoil: Callable[[World], None]
) -> None:
    await _life(world)
    await asyncio.to_thread(spoil, world)
    await _not_used(world, "how much of its lease is left is not on the disk")


async def test_the_lease_of_another_certificate_is_of_no_use(world: World) -> None:
    await _life(world)
    note = _note(world)
    assert note
    other = replace(note, lease=replace(note.lease, certificate="0a" * 32))
    SavedLeases(world.state).save("default", other)
    await _not_used(world, "another certificate's")


async def test_a_lease_that_cannot_be_noted_is_not_gone_on_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await _life(world)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SavedLeases, "save", full)
    with capture_logs() as logs:
        async with _start(world) as identity:
            await soon(lambda: identity.store.current)
            assert identity.store.current
            assert identity.store.current.key_id != first.key_id
            # The new one has its lease in this process, and that is enough.
            assert identity.keyring.grant(identity.store.current.key_id)
    assert {e["error"] for e in logs if e["event"] == "no certificate taken up"} == {
        "No space left on device"
    }
    assert "lease not noted" in [e["event"] for e in logs]


async def test_the_mark_rises_while_it_runs_and_at_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lease_memory._BETWEEN_S <= 30
    monkeypatch.setattr(lease_memory, "_BETWEEN_S", 0.01)
    async with _start(world) as identity:
        await soon(lambda: identity.store.current)
        world.clock.advance(MINUTE)
        await soon(lambda: (note := _note(world)) and note.mark == START + MINUTE)
        world.clock.jump(timedelta(days=1))
        await soon(lambda: (note := _note(world)) and note.mark > START + timedelta(days=1))
        monkeypatch.setattr(lease_memory, "_BETWEEN_S", 3600)
        await settle()
        world.clock.jump(-timedelta(days=1))
        world.clock.advance(SECOND)
    note = _note(world)
    assert note
    assert note.seen.wall < START + 2 * MINUTE
    assert note.mark > START + timedelta(days=1)


@pytest.mark.parametrize(
    ("failure", "end"),
    [
        (AuthorityUnavailable("gone"), LENGTH + GRACE),
        # No restart brings a grace back.
        (AuthorityError("no"), LENGTH),
    ],
)
async def test_what_became_of_a_renewal_outlives_a_kill(
    world: World, failure: Exception, end: timedelta
) -> None:
    await _life(world)
    async with _start(world, killed=True) as identity:
        await soon(lambda: _taken(identity))
        before = _note(world)
        world.authority.failures.append(failure)
        with pytest.raises(type(failure)):
            await identity.renew()
        await soon(lambda: (now := _note(world)) and before and now.lease != before.lease)
    world.authority.failures += [AuthorityUnavailable("gone")] * 2
    async with _start(world) as identity:
        await soon(lambda: _taken(identity))
        with pytest.raises(AuthorityUnavailable):
            await identity.renew()
        assert identity.lease_end == START + end


async def test_a_start_after_a_reboot_is_noted_before_anything_is_signed(world: World) -> None:
    await _life(world)
    left = []
    for boot in range(3):
        world.boot_id = f"boot {boot}"
        # The clock is back at the mark, and nothing is noted in the life itself.
        world.clock.reboot(after=timedelta(0))
        async with _start(world, killed=True) as identity:
            await soon(lambda: _taken(identity))
            assert identity.lease_end
            left.append(identity.lease_end - world.clock())
    assert left == [LENGTH - MINUTE, LENGTH - 2 * MINUTE, LENGTH - 3 * MINUTE]


async def test_without_a_directory_nothing_is_noted_and_a_key_has_its_lease_all_the_same(
    world: World,
) -> None:
    world.memory = lambda _leases: NoMemory()
    async with _start(world) as identity:
        await soon(lambda: identity.store.current)
        assert identity.lease_end == START + LENGTH
    assert not world.state.exists()
