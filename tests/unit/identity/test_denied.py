"""The deny list beside the certificate in use, and an identity that is on it itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar.errors import SigningRefused, TokenUnavailable
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.token.base import KeyId
from tests.fixtures.deny_lists import OTHER, PEER, DenyWorld, deny_list
from tests.fixtures.enrolment import SPIFFE_ID, World


@pytest.fixture
def lists(tmp_path: Path) -> DenyWorld:
    return DenyWorld(tmp_path)


@pytest.fixture
async def identity(world: World, lists: DenyWorld) -> Identity:
    world.denials = await lists.life()
    return world.identity()


async def _replace(world: World, lists: DenyWorld, identity: Identity, number: int) -> None:
    """By the list of that sequence, which denies the identity itself where it is odd."""
    lists.put(deny_list(number, PEER, *([SPIFFE_ID] if number % 2 else [])))
    world.denials = await lists.life()
    identity.publisher.denials = world.denials
    identity.publisher.publish_denied()


async def test_another_list_is_published_with_the_same_key_and_certificate(
    world: World, lists: DenyWorld, identity: Identity
) -> None:
    await identity.renew()
    before = identity.store.current
    assert before
    assert before.denied is None
    await _replace(world, lists, identity, 2)
    after = identity.store.current
    assert after
    assert after.denied == deny_list(2, PEER)
    assert (after.generation, after.key_id, after.chain) == (2, before.key_id, before.chain)
    assert after.bundles == before.bundles
    assert len(world.token.held_keys) == 1
    identity.publisher.publish_denied()
    assert identity.store.current is after


async def test_a_certificate_and_roots_that_come_later_have_it_too(
    world: World, lists: DenyWorld, identity: Identity
) -> None:
    await _replace(world, lists, identity, 2)
    assert identity.store.generation == 0
    for generation in (1, 2):
        await identity.renew()
        assert identity.store.current
        assert identity.store.current.generation == generation
        assert identity.store.current.denied == deny_list(2, PEER)


async def test_an_identity_that_is_on_the_list_itself_is_an_alarm_and_signs_nothing(
    world: World, lists: DenyWorld, identity: Identity
) -> None:
    await identity.renew()
    assert identity.store.current
    registry, key_id = IdentityRegistry([identity]), identity.store.current.key_id
    with capture_logs() as logged:
        await _replace(world, lists, identity, 3)
        await _replace(world, lists, identity, 5)
    alarms = [e for e in logged if e["event"].startswith("identity is on the deny list")]
    assert [e["log_level"] for e in alarms] == ["critical"]
    with pytest.raises(SigningRefused, match="deny list of sequence 5"):
        registry.require_trusted(key_id)
    # It is still renewed: the CA decides whom it certifies.
    await identity.renew()
    with capture_logs() as logged:
        await _replace(world, lists, identity, 6)
    assert [e["log_level"] for e in logged if "no more" in e["event"]] == ["warning"]
    registry.require_trusted(key_id)


async def test_a_key_that_changed_is_still_told_apart(
    world: World, lists: DenyWorld, identity: Identity
) -> None:
    await identity.renew()
    assert identity.store.current
    await _replace(world, lists, identity, 2)
    registry, key_id = IdentityRegistry([identity]), identity.store.current.key_id
    identity.keyring.distrust(key_id)
    with pytest.raises(TokenUnavailable, match="has changed"):
        registry.require_trusted(key_id)
    registry.require_trusted(KeyId(b"another"))
    assert not world.denials.denies(OTHER)
