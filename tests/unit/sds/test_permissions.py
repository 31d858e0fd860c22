"""Over SDS, what a caller may not follow is as if it were not there."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from sidecar._proto.third_party import envoy_sds_pb2 as pb
from sidecar.core.purpose import SigningPurpose
from tests.fakes.callers import everything_of
from tests.fixtures import certificates
from tests.fixtures.discovery import (
    SERVICE,
    SecretsCall,
    delta_request,
    secrets_of,
    sotw_request,
)
from tests.fixtures.waiting import soon
from tests.unit.sds.conftest import Sds

NOT_FOUND = grpc.StatusCode.NOT_FOUND
# Every name that means the identity "default".
OF_DEFAULT = ["default", "ROOTCA", "ALL", "spiffe://test.mesh", "sds://default"]
OF_DEFAULT += ["sds://default-cacert"]
FORBIDDEN, UNKNOWN = "sds://default", "sds://nothing"


@pytest.fixture
async def edge_only(sds: Sds) -> Sds:
    """Both identities are there, and the caller may follow one."""
    sds.file.write_bytes(certificates.root("some").pem)
    await sds.identity.renew()
    await sds.gateway.renew()
    sds.callers.allow({"edge": frozenset()})
    return sds


async def _fetched(channel: grpc.aio.Channel, *names: str) -> pb.DiscoveryResponse:
    call = channel.unary_unary(
        f"{SERVICE}/FetchSecrets",
        request_serializer=pb.DiscoveryRequest.SerializeToString,
        response_deserializer=pb.DiscoveryResponse.FromString,
    )
    answer: pb.DiscoveryResponse = await call(sotw_request(*names))
    return answer


async def _fetch_end(channel: grpc.aio.Channel, name: str) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await _fetched(channel, name)
    return refused.value.code(), refused.value.details() or ""


async def _stream_end(channel: grpc.aio.Channel, name: str) -> tuple[grpc.StatusCode, str]:
    call = SecretsCall(channel)
    await call.ask(name)
    return await call.end()


async def _delta_answer(channel: grpc.aio.Channel, name: str) -> pb.DeltaDiscoveryResponse:
    call = SecretsCall(channel, "DeltaSecrets")
    await call.write(delta_request(name).SerializeToString())
    answer = pb.DeltaDiscoveryResponse.FromString(await call.read())
    call.cancel()
    return answer


@pytest.mark.parametrize("name", OF_DEFAULT)
async def test_a_forbidden_identity_answers_as_an_unknown_one(
    edge_only: Sds, channel: grpc.aio.Channel, name: str
) -> None:
    for ask in (_fetch_end, _stream_end):
        code, forbidden = await ask(channel, name)
        assert code is NOT_FOUND
        _, unknown = await ask(channel, UNKNOWN)
        assert forbidden.replace(name, UNKNOWN, 1) == unknown
        # Which says what there is, for this caller.
        assert "identities: 'edge'; files: " in forbidden
    answer = await _delta_answer(channel, name)
    assert [*answer.removed_resources] == [name]
    assert not answer.resources


async def test_what_a_caller_may_follow_and_the_files_are_served(
    edge_only: Sds, channel: grpc.aio.Channel
) -> None:
    file = f"file-root:{edge_only.file}"
    names = ["sds://edge", "sds://edge-cacert", file]
    assert secrets_of(await _fetched(channel, *names)) == names
    call = SecretsCall(channel)
    await call.ask("sds://edge")
    assert secrets_of(await call.answer()) == ["sds://edge"]
    call.cancel()


@pytest.mark.parametrize("method", ["StreamSecrets", "DeltaSecrets"])
async def test_a_stream_ends_when_one_of_its_names_may_not_be_followed_any_more(
    sds: Sds, channel: grpc.aio.Channel, method: str
) -> None:
    await sds.identity.renew()
    await sds.gateway.renew()
    request = sotw_request if method == "StreamSecrets" else delta_request
    staying, ending = SecretsCall(channel, method), SecretsCall(channel, method)
    await staying.write(request("sds://edge").SerializeToString())
    await ending.write(request("sds://edge", FORBIDDEN).SerializeToString())
    await staying.read()
    await soon(lambda: len(sds.identity.store.subscriptions) == 1)
    # Whether they come together or one by one: a status comes after what was sent before it.
    while FORBIDDEN.encode() not in await ending.read():
        pass
    sds.callers.allow({"edge": frozenset(SigningPurpose)})
    code, text = await ending.end()
    assert (code, text.partition(";")[0]) == (NOT_FOUND, f"no secret '{FORBIDDEN}'")
    # The other one goes on.
    generation = sds.gateway.store.generation
    await sds.gateway.renew()
    assert sds.gateway.store.generation > generation
    assert await staying.read()
    assert sds.counts.streams == 1
    staying.cancel()


async def test_who_may_have_nothing_is_not_let_in_and_is_put_out(
    sds: Sds, channel: grpc.aio.Channel
) -> None:
    await sds.identity.renew()
    call = SecretsCall(channel)
    await call.ask("default")
    await call.answer()
    sds.callers.allow({})
    assert await call.end() == (grpc.StatusCode.PERMISSION_DENIED, "the rules have changed")
    assert await _stream_end(channel, "default") == (grpc.StatusCode.PERMISSION_DENIED, "not you")
    assert (await _fetch_end(channel, "default"))[0] is grpc.StatusCode.PERMISSION_DENIED
    assert sds.counts.callers.refused == 3
    await soon(lambda: not sds.counts.streams)
    assert sds.counts.followed == 0
    sds.callers.allow(everything_of("default"))
    assert secrets_of(await _fetched(channel, "default")) == ["default"]
