"""The rules of DeltaSecrets, one request at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sidecar._proto.third_party import envoy_sds_pb2 as pb
from sidecar.errors import DiscoveryRefused
from sidecar.sds import resources
from sidecar.sds.resources import SECRET
from tests.fixtures.discovery import Delta, secrets_of
from tests.unit.sds.conftest import Sds, new_bundle


@pytest.fixture
async def client(sds: Sds) -> AsyncIterator[Delta]:
    """Of an identity with a certificate."""
    await sds.identity.renew()
    made = sds.delta()
    yield made
    made.leave()


async def taken(client: Delta, *names: str) -> pb.DeltaDiscoveryResponse:
    """What the client was sent and has acknowledged."""
    sent = await client.say(*names)
    assert sent
    assert await client.say(nonce=sent.nonce) is None
    return sent


def root_version(sds: Sds) -> str:
    return resources.version([resources.trusted_ca("ROOTCA", sds.snapshot.bundles[0])])


async def test_a_response_has_name_version_and_content(sds: Sds, client: Delta) -> None:
    secret = resources.trusted_ca("ROOTCA", sds.snapshot.bundles[0])
    resource = pb.Resource(
        version=resources.version([secret]), resource=resources.as_any(secret), name="ROOTCA"
    )
    assert await client.say("ROOTCA") == pb.DeltaDiscoveryResponse(
        resources=[resource], type_url=SECRET, nonce="nonce-1"
    )


async def test_only_what_has_changed_is_sent(sds: Sds, client: Delta) -> None:
    await taken(client, "ROOTCA", "default")
    sds.publish(new_bundle())
    assert secrets_of(await client.wait()) == ["ROOTCA"]
    assert await client.wait() is None


async def test_what_the_client_has_from_before_is_not_sent_again(sds: Sds, client: Delta) -> None:
    held = {"ROOTCA": root_version(sds), "default": "old", "ALL": "not asked for"}
    assert secrets_of(await client.say("ROOTCA", "default", held=held)) == ["default"]
    rootca = next(s for s in sds.identity.store.subscriptions if s.resource == "ROOTCA")
    assert rootca.acked_generation == 1
    sds.publish(new_bundle())
    assert secrets_of(await client.wait()) == ["ROOTCA"]


async def test_only_the_first_request_says_what_the_client_has(sds: Sds, client: Delta) -> None:
    await taken(client, "default")
    sent = await client.say("ROOTCA", held={"ROOTCA": root_version(sds)})
    assert secrets_of(sent) == ["ROOTCA"]


async def test_who_asks_again_is_sent_it_again(client: Delta) -> None:
    await taken(client, "ROOTCA", "default")
    assert secrets_of(await client.say("ROOTCA")) == ["ROOTCA"]


async def test_names_are_added_and_dropped(sds: Sds, client: Delta) -> None:
    await taken(client, "ROOTCA")
    assert secrets_of(await client.say("ALL", unsubscribe=["ROOTCA", "never"])) == ["ALL"]
    assert [s.resource for s in sds.identity.store.subscriptions] == ["ALL"]
    sds.publish(new_bundle())
    assert secrets_of(await client.wait()) == ["ALL"]


async def test_what_is_dropped_and_asked_for_at_once_is_sent(client: Delta) -> None:
    await taken(client, "ROOTCA")
    assert secrets_of(await client.say("ROOTCA", unsubscribe=["ROOTCA"])) == ["ROOTCA"]


async def test_an_unknown_name_is_removed_and_the_others_are_sent(client: Delta) -> None:
    sent = await client.say("nonsense", "ROOTCA", "sds://nobody")
    assert sent
    assert secrets_of(sent) == ["ROOTCA"]
    assert list(sent.removed_resources) == ["nonsense", "sds://nobody"]
    assert await client.say(nonce=sent.nonce) is None


async def test_an_answer_to_a_removal_counts(sds: Sds, client: Delta) -> None:
    sent = await client.say("nonsense")
    assert sent
    assert await client.say(nonce=sent.nonce) is None
    assert (sds.counts.acks, sds.counts.nacks) == (1, 0)


async def test_a_trust_domain_is_removed_and_comes_back(sds: Sds, client: Delta) -> None:
    name, ours, other = "spiffe://other.mesh", sds.snapshot.bundles, new_bundle("other.mesh")
    absent = await client.say(name)
    assert absent
    assert (secrets_of(absent), list(absent.removed_resources)) == ([], [name])
    sds.publish(*ours, other)
    assert secrets_of(await client.wait()) == [name]
    sds.publish(*ours)
    gone = await client.wait()
    assert gone
    assert (secrets_of(gone), list(gone.removed_resources)) == ([], [name])
    assert await client.wait() is None


async def test_before_there_is_a_certificate_there_is_no_answer(sds: Sds) -> None:
    client = sds.delta()
    assert await client.say("default", "ROOTCA", held={"ROOTCA": "old"}) is None
    await sds.identity.renew()
    assert secrets_of(await client.wait()) == ["default", "ROOTCA"]
    client.leave()


async def test_each_response_is_answered_by_its_nonce(sds: Sds, client: Delta) -> None:
    first = await client.say("ROOTCA")
    second = await client.say("default")
    assert first
    assert second
    await client.say(nonce=second.nonce)
    await client.say(nonce=first.nonce, error="no")
    state = {s.resource: (s.acked_generation, s.error) for s in sds.identity.store.subscriptions}
    assert state == {"ROOTCA": (0, "no"), "default": (1, "")}
    # Each once.
    await client.say(nonce=first.nonce)
    await client.say(nonce="never-sent", error="no")
    assert (sds.counts.acks, sds.counts.nacks) == (1, 1)


async def test_an_answer_about_old_content_says_nothing_of_the_new(sds: Sds, client: Delta) -> None:
    first = await client.say("ROOTCA")
    sds.publish(new_bundle())
    second = await client.wait()
    assert first
    assert second
    await client.say(nonce=first.nonce, error="no")
    (subscription,) = sds.identity.store.subscriptions
    assert (subscription.acked_generation, subscription.error) == (0, "")
    await client.say(nonce=second.nonce)
    assert subscription.acked_generation == 2


async def test_a_refused_secret_is_sent_again_only_when_it_has_changed(
    sds: Sds, client: Delta
) -> None:
    sent = await client.say("ROOTCA")
    assert sent
    assert await client.say(nonce=sent.nonce, error="no") is None
    sds.publish()
    assert await client.wait() is None
    sds.publish(new_bundle())
    assert secrets_of(await client.wait()) == ["ROOTCA"]


async def test_who_never_answers_is_not_remembered_without_bound(sds: Sds, client: Delta) -> None:
    first = await client.say("ROOTCA")
    for _ in range(16):
        last = await client.say("ROOTCA")
    assert first
    assert last
    await client.say(nonce=first.nonce)
    assert sds.counts.acks == 0
    await client.say(nonce=last.nonce)
    assert sds.counts.acks == 1


async def test_who_asks_for_too_much_is_refused(sds: Sds, client: Delta) -> None:
    with pytest.raises(DiscoveryRefused, match="at most 64 may be asked for"):
        await client.say(*(f"nonsense {number}" for number in range(65)))
    sds.publish(*(new_bundle(f"mesh{number}") for number in range(65)))
    await client.say(*(f"spiffe://mesh{number}" for number in range(64)))
    with pytest.raises(DiscoveryRefused, match="at most 64 secrets"):
        await client.say("spiffe://mesh64")


async def test_unknown_names_do_not_pile_up_for_who_does_not_read(client: Delta) -> None:
    client.send(*(f"nonsense {number}" for number in range(64)))
    with pytest.raises(DiscoveryRefused, match="too many names that are not served here"):
        client.send("nonsense 64")


async def test_another_type_is_refused(client: Delta) -> None:
    with pytest.raises(DiscoveryRefused, match="Listener' is not served here"):
        await client.say("ROOTCA", type_url="type.googleapis.com/envoy.config.Listener")
