"""Finding identities."""

from __future__ import annotations

import pytest

from sidecar.errors import UnknownIdentity
from sidecar.identity.registry import IdentityRegistry
from sidecar.token.base import KeyId
from tests.fixtures.enrolment import World

BOTH = ("default", "other")


async def test_an_identity_is_found_by_name_and_the_empty_name_is_the_default(
    world: World,
) -> None:
    default, other = world.identity(), world.identity(name="other")
    registry = IdentityRegistry([default, other])
    assert registry.named("") is registry.named("default") is default
    assert registry.named("other") is other
    assert list(registry) == [default, other]


async def test_an_unknown_name_is_refused(world: World) -> None:
    with pytest.raises(UnknownIdentity, match="no identity 'nobody' here"):
        IdentityRegistry([world.identity()]).named("nobody")


async def test_a_key_is_found_whichever_identity_has_it(world: World) -> None:
    identities = [world.identity(), world.identity(name="other")]
    registry = IdentityRegistry(identities)
    for identity in identities:
        await identity.renew()
        assert identity.store.current
        key_id = identity.store.current.key_id
        assert registry.grant(key_id, BOTH) == identity.keyring.grant(key_id)
        assert registry.grant(key_id, [identity.name])
    assert registry.grant(KeyId(b"unknown"), BOTH) is None


async def test_what_a_caller_may_not_have_is_not_even_looked_at(world: World) -> None:
    default, other = world.identity(), world.identity(name="other")
    registry = IdentityRegistry([default, other])
    await other.renew()
    assert other.store.current
    key_id = other.store.current.key_id
    looks: list[KeyId] = []
    other.keyring.grant = looks.append  # type: ignore[method-assign, assignment]
    assert registry.grant(key_id, ["default", "nobody"]) is None
    assert not looks


async def test_an_identity_that_a_caller_may_not_have_is_as_unknown_as_any(world: World) -> None:
    registry = IdentityRegistry([world.identity(), world.identity(name="other")])
    assert registry.permitted("", ["default"]).name == "default"
    assert registry.permitted("other", BOTH).name == "other"
    texts = set()
    for name in ("other", "nobody"):
        with pytest.raises(UnknownIdentity) as refused:
            registry.permitted(name, ["default"])
        texts.add(str(refused.value).replace(name, "NAME"))
    assert len(texts) == 1
    with pytest.raises(UnknownIdentity):
        registry.permitted("", ["other"])
