"""What clients see of an identity that is deprovisioned, and of its return."""

from __future__ import annotations

import pytest

from sidecar.errors import IdentityDeprovisioned
from tests.fixtures.discovery import secrets_of
from tests.unit.sds.conftest import Sds

NAMES = ["default", "ROOTCA", "ALL", "sds://default", "sds://default-cacert"]


async def test_a_delta_client_is_told_that_its_secrets_are_gone_and_that_they_are_back(
    sds: Sds,
) -> None:
    await sds.identity.renew()
    client = sds.delta()
    first = await client.say(*NAMES)
    assert first
    assert await client.say(nonce=first.nonce) is None
    await sds.identity.deprovision()
    gone = await client.wait()
    assert gone
    assert (list(gone.removed_resources), len(gone.resources)) == (NAMES, 0)
    assert await client.say(nonce=gone.nonce) is None
    await sds.identity.reinstate()
    await sds.identity.renew()
    back = await client.wait()
    assert secrets_of(back) == NAMES
    client.leave()


async def test_a_state_of_the_world_client_is_told_a_world_without_them(sds: Sds) -> None:
    await sds.identity.renew()
    client = sds.sotw()
    first = await client.say("default")
    assert first
    assert await client.say("default", nonce=first.nonce) is None
    await sds.identity.deprovision()
    gone = await client.wait()
    assert gone
    assert not gone.resources
    assert gone.version_info != first.version_info
    # A client that refuses an empty answer changes nothing.
    assert await client.say("default", nonce=gone.nonce, error="it is missing") is None
    await sds.identity.reinstate()
    await sds.identity.renew()
    assert secrets_of(await client.wait()) == ["default"]
    client.leave()


async def test_other_identities_secrets_stay_in_the_world(sds: Sds) -> None:
    await sds.identity.renew()
    await sds.gateway.renew()
    client = sds.sotw()
    assert secrets_of(await client.say("default", "sds://edge")) == ["default", "sds://edge"]
    await sds.gateway.deprovision()
    assert secrets_of(await client.wait()) == ["default"]
    client.leave()


async def test_who_comes_later_is_told_at_once(sds: Sds) -> None:
    await sds.identity.renew()
    await sds.identity.deprovision()
    delta, sotw = sds.delta(), sds.sotw()
    gone = await delta.say("default")
    assert gone
    assert list(gone.removed_resources) == ["default"]
    world = await sotw.say("default")
    assert world
    assert not world.resources
    delta.leave()
    sotw.leave()


async def test_who_fetches_is_told_why(sds: Sds) -> None:
    await sds.identity.renew()
    await sds.identity.deprovision()
    with pytest.raises(IdentityDeprovisioned, match="meshkey reinstate default"):
        await sds.source.now("default")
