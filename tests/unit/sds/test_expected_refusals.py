"""Where proxies sign through the module, that they refuse certificates holds nothing up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import structlog
from structlog.testing import capture_logs

from sidecar.sds.watched import RefusedCertificates
from tests.fixtures.discovery import Delta, Sotw
from tests.fixtures.enrolment import World
from tests.fixtures.waiting import settle, soon
from tests.unit.sds.conftest import Sds, new_bundle

REASON = "Failed to load private key provider: meshkey"


@pytest.fixture
async def sds(world: World) -> Sds:
    return Sds(
        world.identity(),
        world.identity(name="edge"),
        world.directory / "file.pem",
        refused_certificates=RefusedCertificates.EXPECTED,
    )


@pytest.fixture
async def client(sds: Sds) -> AsyncIterator[Sotw]:
    await sds.identity.renew()
    made = sds.sotw()
    yield made
    made.leave()


@pytest.fixture(autouse=True)
def _default_logging() -> None:
    structlog.reset_defaults()


async def refuse(client: Sotw, *names: str) -> None:
    """Asks for `names`, and refuses what is sent."""
    sent = await client.say(*names)
    assert sent
    await client.say(*names, nonce=sent.nonce, error=REASON)


@pytest.mark.parametrize("name", ["default", "sds://default"])
async def test_a_rotation_destroys_the_old_key_while_a_proxy_refuses_the_new_one(
    world: World, sds: Sds, client: Sotw, name: str
) -> None:
    await refuse(client, name)
    old = sds.snapshot.key_id
    await sds.identity.renew()
    newer = await client.wait()
    assert newer
    await client.say(name, nonce=newer.nonce, error=REASON)
    await soon(lambda: old not in world.token.held_keys)
    assert world.token.held_keys == {sds.snapshot.key_id}


async def test_who_has_refused_one_and_left_holds_no_key(sds: Sds, client: Sotw) -> None:
    await refuse(client, "default")
    client.leave()
    await settle()
    assert not sds.identity.store.subscriptions
    assert sds.identity.store.is_acknowledged(1)


async def test_who_takes_no_certificate_at_all_is_not_waited_for(
    world: World, sds: Sds, client: Sotw
) -> None:
    assert await client.say("default")
    old = sds.snapshot.key_id
    await sds.identity.renew()
    await soon(lambda: old not in world.token.held_keys)


async def test_it_is_counted_apart_and_told_once(sds: Sds, client: Sotw) -> None:
    with capture_logs() as logged:
        await refuse(client, "default")
        await sds.identity.renew()
        newer = await client.wait()
        assert newer
        await client.say("default", nonce=newer.nonce, error=REASON)
    told = [entry for entry in logged if "refused" in entry["event"]]
    assert told == [
        {
            "event": "certificate refused by subscriber, as is expected",
            "log_level": "info",
            "secret": "default",
            "error": REASON,
            "node": "",
        }
    ]
    assert (sds.counts.nacks, sds.counts.expected_nacks) == (0, 2)


async def test_the_status_still_says_that_it_was_refused(sds: Sds, client: Sotw) -> None:
    await refuse(client, "default")
    (subscription,) = sds.identity.store.subscriptions
    assert (subscription.acked_generation, subscription.error) == (0, REASON)


@pytest.mark.parametrize("name", ["ROOTCA", "ALL", "sds://default-cacert"])
async def test_refused_roots_hold_the_key_and_are_an_error_as_ever(
    world: World, sds: Sds, client: Sotw, name: str
) -> None:
    with capture_logs() as logged:
        await refuse(client, name)
    assert [entry["log_level"] for entry in logged] == ["error"]
    assert (sds.counts.nacks, sds.counts.expected_nacks) == (1, 0)
    old = sds.snapshot.key_id
    assert not sds.identity.store.is_acknowledged(await sds.identity.renew())
    await settle()
    assert old in world.token.held_keys


async def test_roots_that_are_not_taken_yet_are_waited_for(
    world: World, sds: Sds, client: Sotw
) -> None:
    await client.say("ROOTCA")
    sds.publish(new_bundle())
    await settle()
    assert not sds.identity.store.is_acknowledged(2)


async def test_a_response_with_roots_and_a_certificate_that_is_refused_is_an_error_for_the_roots(
    sds: Sds, client: Sotw
) -> None:
    with capture_logs() as logged:
        await refuse(client, "default", "ROOTCA")
    assert [(entry["log_level"], entry["secret"]) for entry in logged] == [
        ("info", "default"),
        ("error", "ROOTCA"),
    ]
    assert (sds.counts.nacks, sds.counts.expected_nacks) == (1, 0)
    assert not sds.identity.store.is_acknowledged(1)


async def test_what_is_refused_and_is_no_secret_at_all_is_an_error(sds: Sds) -> None:
    client: Delta = sds.delta()
    sent = await client.say("nobody")
    assert sent
    with capture_logs() as logged:
        await client.say(nonce=sent.nonce, error="no")
    client.leave()
    assert [entry["log_level"] for entry in logged] == ["error"]
    assert (sds.counts.nacks, sds.counts.expected_nacks) == (1, 0)
