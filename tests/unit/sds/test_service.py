"""The service on a real socket, with a client of bytes."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import grpc.aio
import pytest
import structlog
from google.protobuf.any_pb2 import Any
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sidecar._proto.third_party import envoy_sds_pb2 as pb
from sidecar.core.trust import TrustBundle
from sidecar.errors import DiscoveryRefused
from sidecar.rpc.sockets import bind, unix_channel, unix_server
from sidecar.sds import resources
from sidecar.sds.requests import MAX_MESSAGE_BYTES, decoder, node_of
from sidecar.sds.resources import SECRET
from tests.fixtures.discovery import SERVICE, SecretsCall, secrets_of, sotw_request
from tests.fixtures.waiting import soon
from tests.fixtures.wire import octets
from tests.unit.sds.conftest import Sds, new_bundle

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(autouse=True)
def _default_logging() -> None:
    structlog.reset_defaults()


async def fetch(channel: grpc.aio.Channel, wire: bytes) -> bytes:
    call = channel.unary_unary(
        f"{SERVICE}/FetchSecrets", request_serializer=bytes, response_deserializer=bytes
    )
    return bytes(await call(wire))


def delta_subscribe(*names: str) -> bytes:
    return octets(2, SECRET) + b"".join(octets(3, name) for name in names)


async def test_stream_secrets_byte_by_byte(sds: Sds, channel: grpc.aio.Channel) -> None:
    await sds.identity.renew()
    secret = resources.trusted_ca("ROOTCA", sds.snapshot.bundles[0])
    version = resources.version([secret])
    call = SecretsCall(channel)
    # A node with fields that nobody here knows.
    node = octets(1, "sidecar~10.0.0.1~web") + octets(2, "web") + octets(6, "envoy")
    await call.write(octets(2, node) + octets(3, "ROOTCA") + octets(4, SECRET))
    nonce = pb.DiscoveryResponse.FromString(wire := await call.read()).nonce
    assert nonce
    resource = octets(1, SECRET) + octets(2, secret)
    assert wire == octets(1, version) + octets(2, resource) + octets(4, SECRET) + octets(5, nonce)
    ack = octets(1, version) + octets(3, "ROOTCA") + octets(4, SECRET) + octets(5, nonce)
    await call.write(ack)
    await soon(lambda: sds.counts.acks)
    sds.publish(new_bundle())
    second = await call.answer()
    error = b"\x08\x0d" + octets(2, "Failed to load trusted CA")
    await call.write(octets(3, "ROOTCA") + octets(5, second.nonce) + octets(6, error))
    await soon(lambda: sds.counts.nacks)
    (subscription,) = sds.identity.store.subscriptions
    assert subscription.error == "Failed to load trusted CA"
    call.cancel()


async def test_delta_secrets_byte_by_byte(sds: Sds, channel: grpc.aio.Channel) -> None:
    await sds.identity.renew()
    secret = resources.trusted_ca("ROOTCA", sds.snapshot.bundles[0])
    call = SecretsCall(channel, "DeltaSecrets")
    held = octets(5, octets(1, "default") + octets(2, "0123456789abcdef"))
    await call.write(delta_subscribe("ROOTCA", "nonsense") + held)
    nonce = pb.DeltaDiscoveryResponse.FromString(wire := await call.read()).nonce
    resource = (
        octets(1, resources.version([secret]))
        + octets(2, octets(1, SECRET) + octets(2, secret))
        + octets(3, "ROOTCA")
    )
    removed = octets(6, "nonsense")
    assert wire == octets(2, resource) + octets(4, SECRET) + octets(5, nonce) + removed
    await call.write(octets(2, SECRET) + octets(6, nonce))
    await soon(lambda: sds.counts.acks)
    call.cancel()


async def test_fetch_answers_at_once(sds: Sds, channel: grpc.aio.Channel) -> None:
    await sds.identity.renew()
    wire = sotw_request("ROOTCA", "default").SerializeToString()
    answer = pb.DiscoveryResponse.FromString(await fetch(channel, wire))
    found = [
        resources.trusted_ca("ROOTCA", sds.snapshot.bundles[0]),
        resources.tls_certificate("default", sds.snapshot),
    ]
    assert answer == pb.DiscoveryResponse(
        version_info=resources.version(found),
        resources=[Any(type_url=SECRET, value=secret) for secret in found],
        type_url=SECRET,
    )


@pytest.mark.parametrize(
    ("names", "code", "reason"),
    [
        (
            ["ROOTCA"],
            grpc.StatusCode.UNAVAILABLE,
            "identity 'default' has no certificate yet: gone",
        ),
        (["nonsense"], NOT_FOUND, "no secret 'nonsense'"),
        (["spiffe://nowhere"], grpc.StatusCode.UNAVAILABLE, "no certificate yet"),
        ([], INVALID, "name it in resource_names"),
        (["x", "y" * 2049], INVALID, "at most 2048 bytes"),
    ],
)
async def test_a_fetch_that_fails_says_why(
    sds: Sds, channel: grpc.aio.Channel, names: list[str], code: grpc.StatusCode, reason: str
) -> None:
    sds.identity.last_error = "gone"
    with pytest.raises(grpc.aio.AioRpcError, match=reason) as failed:
        await fetch(channel, sotw_request(*names).SerializeToString())
    assert failed.value.code() is code


async def test_a_fetch_of_a_trust_domain_that_nobody_trusts_is_not_found(
    sds: Sds, channel: grpc.aio.Channel
) -> None:
    await sds.identity.renew()
    with pytest.raises(grpc.aio.AioRpcError, match="no secret 'spiffe://nowhere'") as failed:
        await fetch(channel, sotw_request("spiffe://nowhere").SerializeToString())
    assert failed.value.code() is NOT_FOUND


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (sotw_request("nonsense"), NOT_FOUND, "no secret 'nonsense'.*ask for default, ROOTCA"),
        (sotw_request("x" * 2049), INVALID, "at most 2048 bytes"),
        (sotw_request(*map(str, range(65))), INVALID, "65 secrets at once"),
        (sotw_request("ROOTCA", type_url="x/Listener"), INVALID, "'x/Listener' is not served"),
        (octets(2, "x" * MAX_MESSAGE_BYTES), INVALID, "1048576 are read"),
        (b"\xff\xff\xff", INVALID, "what came is no DiscoveryRequest message"),
    ],
)
async def test_a_stream_that_is_ended_leaves_the_others_alone(
    sds: Sds,
    channel: grpc.aio.Channel,
    request_: pb.DiscoveryRequest | bytes,
    code: grpc.StatusCode,
    reason: str,
) -> None:
    await sds.identity.renew()
    other = SecretsCall(channel)
    await other.ask("ROOTCA")
    await other.answer()
    call = SecretsCall(channel)
    with capture_logs() as logged:
        await call.write(request_ if isinstance(request_, bytes) else request_.SerializeToString())
        ended, details = await call.end()
    assert [(entry["event"], entry["error"]) for entry in logged] == [
        ("secret not served", details)
    ]
    assert ended is code
    assert re.search(reason, details)
    await soon(lambda: sds.counts.streams == 1)
    assert len(sds.identity.store.subscriptions) == 1
    sds.publish(new_bundle())
    assert secrets_of(await other.answer()) == ["ROOTCA"]
    other.cancel()


async def test_garbage_on_a_delta_stream_ends_it(sds: Sds, channel: grpc.aio.Channel) -> None:
    call = SecretsCall(channel, "DeltaSecrets")
    await call.write(b"\xff\xff\xff")
    assert await call.end() == (INVALID, "what came is no DeltaDiscoveryRequest message")


async def test_a_client_that_closes_its_side_is_told_that_all_is_well(
    sds: Sds, channel: grpc.aio.Channel
) -> None:
    await sds.identity.renew()
    call = SecretsCall(channel)
    await call.ask("ROOTCA")
    await call.answer()
    await call.done_writing()
    assert await call.end() == (grpc.StatusCode.OK, "")
    assert sds.counts.streams == 0
    await soon(lambda: not sds.identity.store.subscriptions)


async def test_a_client_that_is_gone_is_no_subscriber_any_more(
    sds: Sds, channel: grpc.aio.Channel
) -> None:
    call = SecretsCall(channel)
    await call.ask("ROOTCA")
    await soon(lambda: sds.identity.store.subscriptions)
    assert sds.counts.streams == 1
    call.cancel()
    await soon(lambda: not sds.identity.store.subscriptions)
    assert sds.counts.streams == 0


async def test_a_stream_is_accepted_before_there_is_anything_to_send(
    sds: Sds, channel: grpc.aio.Channel
) -> None:
    call = SecretsCall(channel)
    await call.accepted()
    assert sds.counts.streams == 1
    call.cancel()


async def test_many_streams_are_served_at_once(sds: Sds, channel: grpc.aio.Channel) -> None:
    calls = [SecretsCall(channel) for _ in range(80)]
    deltas = [SecretsCall(channel, "DeltaSecrets") for _ in range(80)]
    for call in calls:
        await call.ask("ROOTCA")
    for delta in deltas:
        await delta.write(delta_subscribe("ROOTCA"))
    await soon(lambda: len(sds.identity.store.subscriptions) == 160)
    await sds.identity.renew()
    nonces = {(await call.answer()).nonce for call in calls}
    for delta in deltas:
        nonces.add(pb.DeltaDiscoveryResponse.FromString(await delta.read()).nonce)
    assert len(nonces) == 160
    for call in (*calls, *deltas):
        call.cancel()


async def test_more_streams_than_are_served_at_once_are_told_to_come_back(
    sds: Sds, channel: grpc.aio.Channel
) -> None:
    sds.counts.streams = 1023
    last = SecretsCall(channel)
    await last.accepted()
    one_too_many = SecretsCall(channel)
    assert await one_too_many.end() == (
        grpc.StatusCode.UNAVAILABLE,
        "1024 streams are open already; try again later",
    )
    await soon(lambda: sds.counts.streams == 1024)
    last.cancel()


async def test_more_names_than_are_followed_at_once_are_told_to_come_back(
    sds: Sds, channel: grpc.aio.Channel
) -> None:
    await sds.identity.renew()
    names = [f"spiffe://domain{number}" for number in range(64)]
    streams = [SecretsCall(channel, "DeltaSecrets") for _ in range(32)]
    for stream in streams:
        await stream.write(delta_subscribe(*names))
        await stream.read()
    assert len(sds.identity.store.subscriptions) == 2048
    one_too_many = SecretsCall(channel)
    await one_too_many.ask("ROOTCA")
    assert await one_too_many.end() == (
        grpc.StatusCode.UNAVAILABLE,
        "2048 secrets are followed already; try again later",
    )
    for stream in streams:
        stream.cancel()
    await soon(lambda: not sds.identity.store.subscriptions)
    again = SecretsCall(channel)
    await again.ask("ROOTCA")
    assert secrets_of(await again.answer()) == ["ROOTCA"]
    again.cancel()


async def test_a_slow_reader_sees_the_newest_state_and_slows_nobody(
    sds: Sds, channel: grpc.aio.Channel, short_dir: Path
) -> None:
    await sds.identity.renew()
    # Each stream takes 64 kB and no more before it is read.
    options: list[tuple[str, int | str]] = [
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 65535),
        ("grpc.default_authority", "localhost"),
    ]
    async with grpc.aio.insecure_channel(f"unix:{short_dir}/sds", options) as narrow:
        slow, quick = SecretsCall(narrow), SecretsCall(channel)
        for call in (slow, quick):
            await call.ask("ROOTCA")
            await call.answer()
        many = tuple(new_bundle().roots[0] for _ in range(150))
        published = [TrustBundle("test.mesh", (*many, *new_bundle().roots)) for _ in range(20)]
        for bundle in published:
            sds.publish(bundle)
            assert len((await quick.answer()).resources[0].value) > 65535
        expected = [resources.trusted_ca("ROOTCA", bundle) for bundle in published]
        seen = [(await slow.answer()).resources[0].value]
        while seen[-1] != expected[-1]:
            seen.append((await slow.answer()).resources[0].value)
        assert len(seen) <= 4
        assert seen[:-1] == expected[: len(seen) - 1]
        slow.cancel()
        quick.cancel()


async def test_after_a_restart_the_same_content_has_the_same_version(
    sds: Sds, channel: grpc.aio.Channel, short_dir: Path
) -> None:
    await sds.identity.renew()
    before = SecretsCall(channel)
    await before.ask("ROOTCA")
    first = await before.answer()
    before.cancel()
    server = unix_server()
    server.add_generic_rpc_handlers((sds.service().handler(),))
    bind(server, short_dir / "again", 0o600)
    await server.start()
    async with unix_channel(short_dir / "again") as again:
        call = SecretsCall(again)
        await call.ask("ROOTCA", version=first.version_info)
        second = await call.answer()
        call.cancel()
    await server.stop(None)
    assert second.version_info == first.version_info
    assert second.nonce != first.nonce


def test_of_what_a_client_says_of_itself_little_is_kept() -> None:
    assert node_of(sotw_request(node="n" * 1000)) == "n" * 100
    assert resources.is_version(resources.version([b"a secret"]))
    assert not resources.is_version("0" * 1000)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(wire: bytes) -> None:
    for kind in (pb.DiscoveryRequest, pb.DeltaDiscoveryRequest):
        assert isinstance(decoder(kind)(wire), kind | DiscoveryRefused)
