"""A key that somebody put on the token: used, kept, and refused where it must be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import (
    AuthorityUnavailable,
    ConfigurationError,
    KeyChanged,
    KeyUnsuitable,
    MeshkeyError,
    NoSuchKey,
)
from sidecar.token.base import KeyId, Origin
from tests.fakes.token import FakeToken
from tests.fixtures.enrolment import LIFETIME, World
from tests.fixtures.private_keys import some_key
from tests.fixtures.waiting import settle, soon


def _world(directory: Path, origin: Origin = Origin.IMPORTED, *, allowed: bool = True) -> World:
    token = FakeToken()
    key_id = KeyId(b"given")
    # Not `import_key`: the fake refuses to be used on the event loop.
    token._keys[key_id] = ("gateway", some_key(KeyAlgorithm.EC_P384))
    token.origins[key_id] = origin
    return World(directory, token=token, given=key_id, allow_imported=allowed)


async def test_every_certificate_is_for_the_same_key_and_it_outlives_the_identity(
    tmp_path: Path,
) -> None:
    world = _world(tmp_path)
    identity = world.identity()
    serials, leaves = set(), list[bytes]()
    for generation in range(1, 7):
        assert await identity.renew() == generation
        snapshot = identity.store.current
        assert snapshot
        assert (snapshot.key_id, snapshot.key_origin) == (world.given, Origin.IMPORTED)
        serials.add(snapshot.chain.serial)
        leaves.insert(0, snapshot.chain.certificates[0])
        world.clock.advance(LIFETIME / 2)
        grant = identity.keyring.grant(snapshot.key_id)
        assert grant
        assert grant.not_after == snapshot.chain.not_after
        # Handshakes in flight, and callers that refused the newest, show an older one.
        assert grant.leaves == tuple(leaves[:4])
    assert len(serials) == 6
    await identity.close()
    assert world.token.held_keys == {world.given}


@pytest.mark.parametrize("error", [NoSuchKey("gone"), KeyChanged("another")], ids=str)
async def test_a_given_key_that_came_back_is_used_again_and_renewed_once(
    tmp_path: Path, error: NoSuchKey | KeyChanged
) -> None:
    world = _world(tmp_path)
    assert world.given
    identity = world.identity()
    running = asyncio.create_task(identity.run())
    await soon(lambda: identity.store.generation == 1)
    identity.replace(world.given, error)
    await soon(lambda: identity.store.generation == 2)
    assert identity.keyring.grant(world.given)
    assert not identity.keyring.is_distrusted(world.given)
    asked = len(world.authority.requests)
    for _ in range(5):
        await settle()
    assert len(world.authority.requests) == asked == 2
    running.cancel()
    await asyncio.wait([running])


async def test_the_log_says_where_the_key_has_been(tmp_path: Path) -> None:
    identity = _world(tmp_path).identity()
    with capture_logs() as logs:
        await identity.renew()
    (line,) = [entry for entry in logs if entry["event"] == "certificate published"]
    assert line["key_origin"] == "imported"


async def test_a_failed_renewal_leaves_it_alone(tmp_path: Path) -> None:
    world = _world(tmp_path)
    world.authority.failures.append(AuthorityUnavailable("gone"))
    with pytest.raises(AuthorityUnavailable):
        await world.identity().renew()
    assert world.token.held_keys == {world.given}


@pytest.mark.parametrize(
    ("origin", "allowed", "refused", "message"),
    [
        (Origin.BORN, False, None, ""),
        (Origin.BORN, True, None, ""),
        (Origin.IMPORTED, True, None, ""),
        (Origin.IMPORTED, False, ConfigurationError, "set identity.allow_imported"),
        (Origin.EXPOSED, False, KeyUnsuitable, "could leave token 'fake', so no identity"),
        (Origin.EXPOSED, True, KeyUnsuitable, "leave identity.key_id out"),
    ],
)
async def test_origins_decide(
    tmp_path: Path,
    origin: Origin,
    allowed: bool,
    refused: type[MeshkeyError] | None,
    message: str,
) -> None:
    world = _world(tmp_path, origin, allowed=allowed)
    if refused is None:
        assert (await world.keys().obtain(1)).origin is origin
    else:
        with pytest.raises(refused, match=message):
            await world.identity().renew()
        assert not world.authority.requests
    assert world.token.held_keys == {world.given}


async def test_a_key_that_is_gone_is_named(tmp_path: Path) -> None:
    world = _world(tmp_path)
    assert world.given
    world.token.lose(world.given)
    with pytest.raises(NoSuchKey, match=r"no key 676976656e \(identity.key_id\) on token 'fake'"):
        await world.identity().renew()


async def test_an_origin_that_changed_stops_the_next_renewal(tmp_path: Path) -> None:
    world = _world(tmp_path)
    identity = world.identity()
    await identity.renew()
    assert world.given
    world.token.origins[world.given] = Origin.EXPOSED
    with pytest.raises(KeyUnsuitable):
        await identity.renew()
    assert identity.store.generation == 1
