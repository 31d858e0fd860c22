"""A restart takes up its key and certificate again, or begins anew."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar.identity import disk
from sidecar.identity import identity as module
from sidecar.identity.identity import Identity
from sidecar.identity.memory import TAKEN_UP
from sidecar.identity.saved import SavedCertificates
from sidecar.identity.snapshot import Snapshot
from tests.fixtures import certificates
from tests.fixtures.enrolment import LIFETIME, World
from tests.fixtures.waiting import BOUND_S, soon


@pytest.fixture
def world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """One whose identities remember."""
    monkeypatch.setattr(module, "_TICK_S", 0.01)
    return world


@asynccontextmanager
async def _start(world: World) -> AsyncIterator[Identity]:
    """One life of the process, until it has a certificate; ended in order."""
    world.memory = world.saved_memory
    identity = world.identity()
    running = asyncio.create_task(identity.run())
    await soon(lambda: identity.store.current)
    try:
        yield identity
    finally:
        running.cancel()
        await asyncio.wait([running])
        await identity.close()


async def _life(world: World) -> Snapshot:
    async with _start(world) as identity:
        snapshot = identity.store.current
        assert snapshot
        file = world.directory / "state" / "default.json"
        # Not only that there is a file: it may be an earlier one, which is to be replaced.
        await soon(lambda: file.exists() and str(snapshot.key_id) in file.read_text())
        return snapshot


async def test_a_restart_takes_up_its_key_and_certificate_and_keeps_its_schedule(
    world: World,
) -> None:
    first = await _life(world)
    assert world.token.held_keys == {first.key_id}
    world.clock.advance(timedelta(minutes=4))
    async with _start(world) as identity:
        again = identity.store.current
        assert again
        assert (again.key_id, again.chain) == (first.key_id, first.chain)
        assert again.authority == TAKEN_UP
        assert identity.keyring.grant(again.key_id)
        assert identity.next_renewal == world.clock() + timedelta(minutes=6)
    assert len(world.authority.requests) == 1


async def test_what_was_wrong_before_it_was_taken_up_is_no_error_any_more(world: World) -> None:
    await _life(world)
    roots = world.trust_bundle.read_bytes()
    world.trust_bundle.unlink()
    identity = world.identity()
    running = asyncio.create_task(identity.run())
    await soon(lambda: identity.last_error)
    world.trust_bundle.write_bytes(roots)
    world.clock.advance(timedelta(seconds=1))
    await soon(lambda: identity.store.current)
    assert identity.last_error == ""
    running.cancel()
    await asyncio.wait([running])


async def test_one_that_is_due_serves_while_it_is_renewed(world: World) -> None:
    first = await _life(world)
    world.clock.advance(LIFETIME * 0.6)
    world.authority.open.clear()
    async with _start(world) as identity:
        assert identity.store.current
        assert identity.store.current.key_id == first.key_id
        await soon(lambda: len(world.authority.requests) == 2)
        world.authority.open.set()
        await soon(lambda: identity.store.generation == 2)
        await soon(lambda: first.key_id not in world.token.held_keys)


def _expired(world: World, _file: Path) -> None:
    world.clock.advance(LIFETIME)


def _torn(_world: World, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def _tampered(_world: World, file: Path) -> None:
    document = json.loads(file.read_text())
    document["content"]["obtained"] = "2030-01-01T12:05:00+00:00"
    file.write_text(json.dumps(document, separators=(",", ":")) + "\n")


def _other_root(world: World, _file: Path) -> None:
    world.authority.root = certificates.root("another")
    world.trust_bundle.write_bytes(world.authority.root.pem)


def _key_gone(world: World, _file: Path) -> None:
    for key_id in list(world.token.held_keys):
        world.token.destroy(key_id)


@pytest.mark.parametrize("spoil", [_expired, _torn, _tampered, _other_root, _key_gone])
async def test_what_is_not_good_any_more_is_noticed_and_replaced(
    world: World, spoil: Callable[[World, Path], None]
) -> None:
    first = await _life(world)
    await asyncio.to_thread(spoil, world, world.directory / "state" / "default.json")
    with capture_logs() as logs:
        second = await _life(world)
    assert second.key_id != first.key_id
    assert second.authority == "fake"
    assert {"saved certificate not used", "saved certificate unreadable"} & {
        entry["event"] for entry in logs
    }
    assert (await _life(world)).key_id == second.key_id


async def test_a_key_without_our_mark_is_not_taken_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await _life(world)
    monkeypatch.setattr("tests.fixtures.enrolment.OWNER", "ffffffff")
    second = await _life(world)
    assert second.key_id != first.key_id
    # It is not ours to destroy either.
    assert first.key_id in world.token.held_keys


async def test_a_store_that_cannot_be_written_takes_nothing_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SavedCertificates, "save", full)
    with capture_logs() as logs:
        async with _start(world) as identity:
            await soon(lambda: [e for e in logs if e["event"] == "certificate not saved"])
            assert identity.store.current
            assert identity.keyring.grant(identity.store.current.key_id)


async def test_a_disk_that_hangs_holds_up_no_renewal_and_takes_one_thread(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, calls = threading.Event(), []

    def hang(*_: object) -> None:
        calls.append(1)
        assert release.wait(BOUND_S)

    monkeypatch.setattr(SavedCertificates, "save", hang)
    monkeypatch.setattr(disk, "_PATIENCE", timedelta(milliseconds=10))
    try:
        async with _start(world) as identity:
            with capture_logs() as logs:
                for _ in range(3):
                    await identity.renew()
        assert len(calls) == 1
        failures = [e["error"] for e in logs if e["event"] == "certificate not saved"]
        assert len(failures) >= 3
        assert {*failures} == {"the disk does not answer"}
    finally:
        release.set()


async def test_a_bug_in_the_store_costs_only_a_new_certificate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(SavedCertificates, "load", bug)
    monkeypatch.setattr(SavedCertificates, "save", bug)
    with capture_logs() as logs:
        async with _start(world) as identity:
            await soon(lambda: [e for e in logs if e["event"] == "certificate not saved"])
            assert not identity.last_error
    assert len(world.authority.requests) == 1
    assert [bool(e["exc_info"]) for e in logs if e["log_level"] in ("warning", "error")] == [
        True,
        True,
    ]


async def test_a_token_that_is_away_at_the_start_costs_only_a_new_certificate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sidecar.core import rotation

    monkeypatch.setattr(rotation, "retry_delay", lambda *_: timedelta(0))
    first = await _life(world)
    world.token.available = False
    identity = world.identity()
    running = asyncio.create_task(identity.run())
    await soon(lambda: identity.last_error)
    world.token.available = True
    await soon(lambda: identity.store.current)
    assert identity.store.current
    assert identity.store.current.key_id != first.key_id
    running.cancel()
    await asyncio.wait([running])


async def test_retired_keys_do_not_outlive_the_process(world: World) -> None:
    async with _start(world) as identity:
        with identity.store.subscribe():
            await identity.renew()
            await identity.renew()
            assert len(world.token.held_keys) == 3
            assert identity.store.current
            newest = identity.store.current.key_id
    assert world.token.held_keys == {newest}
