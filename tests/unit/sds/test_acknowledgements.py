"""What an identity learns of its SDS clients, and what the log and the counts say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog
from structlog.testing import capture_logs

from sidecar.identity.store import Subscription
from tests.fixtures import certificates
from tests.fixtures.discovery import Sotw
from tests.fixtures.enrolment import World
from tests.fixtures.waiting import settle, soon
from tests.unit.sds.conftest import Sds, new_bundle


@pytest.fixture
async def client(sds: Sds) -> AsyncIterator[Sotw]:
    await sds.identity.renew()
    made = sds.sotw()
    yield made
    made.leave()


@pytest.fixture(autouse=True)
def _default_logging() -> None:
    structlog.reset_defaults()


def subscription(sds: Sds) -> Subscription:
    (only,) = sds.identity.store.subscriptions
    return only


async def test_each_secret_is_a_subscription_of_its_identity(sds: Sds, client: Sotw) -> None:
    await client.say("default", "ROOTCA", "sds://edge-cacert")
    followed = [(s.kind, s.resource) for s in sds.identity.store.subscriptions]
    assert followed == [("sds", "default"), ("sds", "ROOTCA")]
    (gateway,) = sds.gateway.store.subscriptions
    assert gateway.resource == "sds://edge-cacert"
    client.leave()
    await settle()
    assert not sds.identity.store.subscriptions
    assert not sds.gateway.store.subscriptions


async def test_nothing_is_acknowledged_before_the_client_says_so(sds: Sds, client: Sotw) -> None:
    sent = await client.say("ROOTCA")
    assert sent
    assert subscription(sds).acked_generation == 0
    await client.say("ROOTCA", nonce=sent.nonce)
    assert subscription(sds).acked_generation == 1


async def test_a_generation_that_changes_nothing_is_acknowledged_at_once(
    sds: Sds, client: Sotw
) -> None:
    sent = await client.say("ROOTCA")
    assert sent
    await client.say("ROOTCA", nonce=sent.nonce)
    assert sds.publish() == 2
    await settle()
    assert subscription(sds).acked_generation == 2


async def test_a_generation_that_changes_nothing_is_no_answer(sds: Sds, client: Sotw) -> None:
    sent = await client.say("ROOTCA")
    assert sent
    assert sds.publish() == 2
    await settle()
    assert subscription(sds).acked_generation == 0
    # The answer, when it comes, is about what both generations have.
    await client.say("ROOTCA", nonce=sent.nonce)
    assert subscription(sds).acked_generation == 2


async def test_a_refusal_holds_for_as_long_as_the_content_does(sds: Sds, client: Sotw) -> None:
    sent = await client.say("ROOTCA")
    assert sent
    await client.say("ROOTCA", nonce=sent.nonce, error="no")
    sds.publish()
    await settle()
    said = subscription(sds)
    assert (said.acked_generation, said.refused_generation, said.error) == (0, 2, "no")
    sds.publish(new_bundle())
    newer = await client.wait()
    assert newer
    await client.say("ROOTCA", nonce=newer.nonce)
    assert (said.acked_generation, said.refused_generation, said.error) == (3, 0, "")


async def test_a_word_about_old_content_is_none_about_the_new(sds: Sds, client: Sotw) -> None:
    sent = await client.say("ROOTCA")
    assert sent
    sds.publish(new_bundle())
    await settle()
    # The new content is not sent yet.
    await client.say("ROOTCA", nonce=sent.nonce)
    assert subscription(sds).acked_generation == 1


async def test_a_new_root_is_taken_by_clients_before_there_is_a_leaf_under_it(
    world: World, sds: Sds, client: Sotw
) -> None:
    first = await client.say("ROOTCA")
    assert first
    await client.say("ROOTCA", nonce=first.nonce)
    leaf = sds.snapshot.chain
    world.trust_bundle.write_bytes(certificates.root("new").pem + world.authority.root.pem)
    renewing = asyncio.create_task(sds.identity.renew())
    await soon(lambda: sds.identity.store.generation == 2)
    announced = await client.wait()
    assert announced
    assert sds.snapshot.chain == leaf
    assert not renewing.done()
    await client.say("ROOTCA", nonce=announced.nonce)
    await renewing
    assert sds.snapshot.chain != leaf


async def test_a_refusal_is_logged_with_its_reason_and_counted(sds: Sds, client: Sotw) -> None:
    sent = await client.say("ROOTCA", node="sidecar~web")
    assert sent
    with capture_logs() as logged:
        await client.say("ROOTCA", nonce=sent.nonce, error="Failed to load\x1b[31m" + "x" * 600)
    assert logged == [
        {
            "event": "secret refused by subscriber",
            "log_level": "error",
            "secret": "ROOTCA",
            "version": sent.version_info,
            "error": ("Failed to load?[31m" + "x" * 600)[:500],
            "node": "sidecar~web",
            "suppressed": 0,
        }
    ]
    assert sds.counts.nacks == 1
    assert subscription(sds).error == logged[0]["error"]


async def test_a_refusal_without_a_reason_is_one(sds: Sds, client: Sotw) -> None:
    sent = await client.say("ROOTCA")
    assert sent
    await client.say("ROOTCA", nonce=sent.nonce, error="")
    assert subscription(sds).error == "no reason given"


async def test_refusals_do_not_flood_the_log(sds: Sds, client: Sotw) -> None:
    with capture_logs() as logged:
        for _ in range(5):
            sds.publish(new_bundle())
            sent = await client.say("ROOTCA")
            assert sent
            await client.say("ROOTCA", nonce=sent.nonce, error="no")
        sds.now += 1
        sds.publish(new_bundle())
        sent = await client.wait()
        assert sent
        await client.say("ROOTCA", nonce=sent.nonce, error="no")
    assert [entry["suppressed"] for entry in logged] == [0, 4]
    assert sds.counts.nacks == 6


@pytest.mark.parametrize("name", ["nonsense", "spiffe://nowhere"])
async def test_who_refuses_that_a_name_is_unknown_is_logged_too(sds: Sds, name: str) -> None:
    await sds.identity.renew()
    client = sds.delta()
    sent = await client.say(name)
    assert sent
    with capture_logs() as logged:
        await client.say(nonce=sent.nonce, error="no")
    # Without the name, which is anybody's.
    assert [(entry["secret"], entry["error"]) for entry in logged] == [("", "no")]
    assert sds.counts.nacks == 1
    client.leave()


async def test_who_asks_in_vain_is_logged_now_and_then(sds: Sds) -> None:
    client = sds.delta()
    with capture_logs() as logged:
        await client.say("nonsense", "sds://nobody")
        sds.now += 1
        await client.say("kubernetes://edge")
    assert [entry["event"] for entry in logged] == ["secret not served"] * 2
    assert logged[0]["error"].startswith("no secret 'nonsense'; ask for")
    assert logged[1]["suppressed"] == 1
    client.leave()
