"""The rules of StreamSecrets, one request at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sidecar._proto.third_party import envoy_sds_pb2 as pb
from sidecar.errors import DiscoveryRefused, UnknownSecret
from sidecar.sds import resources
from sidecar.sds.resources import SECRET
from tests.fixtures.discovery import Sotw, secrets_of
from tests.unit.sds.conftest import Sds, new_bundle


@pytest.fixture
async def client(sds: Sds) -> AsyncIterator[Sotw]:
    """Of an identity with a certificate."""
    await sds.identity.renew()
    made = sds.sotw()
    yield made
    made.leave()


async def taken(client: Sotw, *names: str) -> pb.DiscoveryResponse:
    """What the client was sent and has acknowledged."""
    sent = await client.say(*names)
    assert sent
    assert await client.say(*names, nonce=sent.nonce, version=sent.version_info) is None
    return sent


async def test_the_first_request_is_answered(sds: Sds, client: Sotw) -> None:
    secret = resources.trusted_ca("ROOTCA", sds.snapshot.bundles[0])
    assert await client.say("ROOTCA") == pb.DiscoveryResponse(
        version_info=resources.version([secret]),
        resources=[resources.as_any(secret)],
        type_url=SECRET,
        nonce="nonce-1",
    )


@pytest.mark.parametrize("nonce", ["", "of-an-earlier-life"])
async def test_the_first_request_is_answered_whatever_the_client_has(
    sds: Sds, client: Sotw, nonce: str
) -> None:
    current = resources.version([resources.trusted_ca("ROOTCA", sds.snapshot.bundles[0])])
    sent = await client.say("ROOTCA", version=current, nonce=nonce)
    assert secrets_of(sent) == ["ROOTCA"]


async def test_other_trust_domains_are_in_the_spiffe_validator_alone(
    sds: Sds, client: Sotw
) -> None:
    (ours,) = sds.snapshot.bundles
    other = new_bundle("other.mesh")
    sds.publish(ours, other)
    sent = await client.say("ROOTCA", "ALL", "spiffe://test.mesh", "spiffe://other.mesh")
    assert sent
    assert [secret.value for secret in sent.resources] == [
        resources.trusted_ca("ROOTCA", ours),
        resources.spiffe_validator("ALL", [ours, other]),
        resources.trusted_ca("spiffe://test.mesh", ours),
        resources.trusted_ca("spiffe://other.mesh", other),
    ]


async def test_what_is_acknowledged_is_not_sent_again(sds: Sds, client: Sotw) -> None:
    await taken(client, "ROOTCA")
    sds.publish()
    assert await client.wait() is None
    assert (sds.counts.acks, sds.counts.nacks) == (1, 0)


async def test_new_content_is_sent_with_a_new_nonce_and_version(sds: Sds, client: Sotw) -> None:
    first = await taken(client, "ROOTCA")
    sds.publish(new_bundle())
    second = await client.wait()
    assert second
    assert second.nonce != first.nonce
    assert second.version_info != first.version_info


async def test_the_newest_content_alone_is_sent(sds: Sds, client: Sotw) -> None:
    await taken(client, "ROOTCA")
    bundles = [new_bundle() for _ in range(3)]
    for bundle in bundles:
        sds.publish(bundle)
    sent = await client.wait()
    assert sent
    assert sent.resources[0].value == resources.trusted_ca("ROOTCA", bundles[-1])
    assert await client.wait() is None


async def test_a_refused_secret_is_sent_again_only_when_it_has_changed(
    sds: Sds, client: Sotw
) -> None:
    first = await taken(client, "ROOTCA")
    sds.publish(new_bundle())
    second = await client.wait()
    assert second
    refusal = {"nonce": second.nonce, "version": first.version_info, "error": "no"}
    assert await client.say("ROOTCA", **refusal) is None
    sds.publish()
    assert await client.wait() is None
    sds.publish(new_bundle())
    assert secrets_of(await client.wait()) == ["ROOTCA"]
    assert (sds.counts.acks, sds.counts.nacks) == (1, 1)


async def test_a_secret_that_is_as_it_was_before_the_refused_one_is_sent(
    sds: Sds, client: Sotw
) -> None:
    before = sds.snapshot.bundles
    first = await taken(client, "ROOTCA")
    sds.publish(new_bundle())
    second = await client.wait()
    assert second
    await client.say("ROOTCA", nonce=second.nonce, error="no")
    sds.publish(*before)
    third = await client.wait()
    assert third
    assert third.version_info == first.version_info


async def test_a_request_that_crossed_a_response_is_ignored(sds: Sds, client: Sotw) -> None:
    first = await client.say("ROOTCA")
    sds.publish(new_bundle())
    second = await client.wait()
    assert first
    assert second
    # It speaks of the first response, and asks for something that it will ask for again.
    assert await client.say("ROOTCA", "default", nonce=first.nonce, error="no") is None
    assert await client.say("nonsense", nonce="never-sent") is None
    assert (sds.counts.acks, sds.counts.nacks) == (0, 0)
    (subscription,) = sds.identity.store.subscriptions
    assert (subscription.acked_generation, subscription.error) == (0, "")
    await client.say("ROOTCA", nonce=second.nonce)
    assert subscription.acked_generation == 2


async def test_names_may_be_added_with_a_nonce_that_was_acknowledged(
    sds: Sds, client: Sotw
) -> None:
    first = await taken(client, "ROOTCA")
    second = await client.say("ROOTCA", "default", nonce=first.nonce)
    assert secrets_of(second) == ["ROOTCA", "default"]
    assert sds.counts.acks == 1


async def test_names_may_be_added_before_anything_was_sent(sds: Sds) -> None:
    client = sds.sotw()
    assert await client.say("default") is None
    assert await client.say("default", "ROOTCA") is None
    await sds.identity.renew()
    assert secrets_of(await client.wait()) == ["default", "ROOTCA"]
    client.leave()


async def test_names_that_are_not_asked_for_any_more_are_not_sent(sds: Sds, client: Sotw) -> None:
    first = await taken(client, "ROOTCA", "default")
    assert await client.say("default", nonce=first.nonce) is None
    assert [s.resource for s in sds.identity.store.subscriptions] == ["default"]
    sds.publish(new_bundle())
    assert await client.wait() is None
    # Back again: it may have been dropped in between.
    assert secrets_of(await client.say("default", "ROOTCA", nonce=first.nonce)) == [
        "default",
        "ROOTCA",
    ]


async def test_who_refused_and_then_asks_for_more_has_still_refused(sds: Sds, client: Sotw) -> None:
    sent = await client.say("ROOTCA")
    assert sent
    await client.say("ROOTCA", nonce=sent.nonce, error="no")
    more = await client.say("ROOTCA", "ALL", nonce=sent.nonce)
    assert secrets_of(more) == ["ROOTCA", "ALL"]
    assert (sds.counts.acks, sds.counts.nacks) == (0, 1)


@pytest.mark.parametrize("name", ["default", "ROOTCA", "ALL", "spiffe://test.mesh"])
async def test_before_there_is_a_certificate_there_is_no_answer(sds: Sds, name: str) -> None:
    client = sds.sotw()
    assert await client.say(name) is None
    await sds.identity.renew()
    assert secrets_of(await client.wait()) == [name]
    client.leave()


async def test_a_name_that_waits_does_not_keep_others_waiting(sds: Sds, client: Sotw) -> None:
    first = await client.say("ROOTCA", "sds://edge")
    assert secrets_of(first) == ["ROOTCA"]
    await sds.gateway.renew()
    assert secrets_of(await client.wait()) == ["ROOTCA", "sds://edge"]


@pytest.mark.parametrize(
    "name", ["nonsense", "sds://nobody", "sds://nobody-cacert", "spiffe://nowhere", "file-cert:x"]
)
async def test_an_unknown_name_is_an_error_that_says_what_there_is(
    sds: Sds, client: Sotw, name: str
) -> None:
    with pytest.raises(UnknownSecret) as refused:
        await client.say("ROOTCA", name)
    for part in ("ROOTCA", "sds://<identity>", "'default', 'edge'", str(sds.file)):
        assert part in str(refused.value)


async def test_a_trust_domain_that_is_not_trusted_any_more_is_an_error(
    sds: Sds, client: Sotw
) -> None:
    ours = sds.snapshot.bundles
    sds.publish(*ours, new_bundle("other.mesh"))
    assert secrets_of(await client.say("spiffe://other.mesh")) == ["spiffe://other.mesh"]
    sds.publish(*ours)
    with pytest.raises(UnknownSecret, match=r"spiffe://other\.mesh"):
        await client.wait()


async def test_a_bug_of_ours_ends_the_stream_instead_of_leaving_it_silent(
    sds: Sds, client: Sotw, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_name: str, _bundle: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(resources, "trusted_ca", broken)
    with pytest.raises(ZeroDivisionError):
        await client.say("ROOTCA")


async def test_another_type_is_refused(client: Sotw) -> None:
    with pytest.raises(DiscoveryRefused, match="Listener' is not served here"):
        await client.say("ROOTCA", type_url="type.googleapis.com/envoy.config.Listener")


async def test_a_type_may_be_left_out(client: Sotw) -> None:
    assert secrets_of(await client.say("ROOTCA", type_url="")) == ["ROOTCA"]
