"""Status and commands over a real socket, from the blocking client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar._proto.meshkey.admin.v1 import admin_pb2_grpc
from sidecar.admin.client import AdminClient, CommandFailed
from sidecar.admin.observed import Observed
from sidecar.admin.service import AdminService, ObserverService
from sidecar.core.schemes import SignatureScheme
from sidecar.errors import AuthorityUnavailable
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.rpc.sockets import bind, unix_server
from sidecar.telemetry import SigningCounts
from tests.fixtures.enrolment import LIFETIME, SPIFFE_ID, World

COUNTS = SigningCounts()
COUNTS.of(SignatureScheme.ED25519).signed = 5
COUNTS.of(0).refused = 2
COUNTS.of(SignatureScheme.ED25519).told_to_retry = 1


@pytest.fixture
async def client(world: World, identity: Identity) -> AsyncIterator[AdminClient]:
    server = unix_server()
    registry = IdentityRegistry([identity])
    seen = Observed(world.token, world.executor, registry, signing=COUNTS)
    admin_pb2_grpc.add_ObserverServicer_to_server(ObserverService(seen), server)
    admin_pb2_grpc.add_AdminServicer_to_server(AdminService(registry), server)
    bind(server, world.directory / "admin", 0o600)
    await server.start()
    with AdminClient(world.directory / "admin") as made:
        yield made
    await server.stop(None)


async def test_before_the_first_certificate_the_status_says_why(
    client: AdminClient, world: World, identity: Identity
) -> None:
    world.authority.failures.append(AuthorityUnavailable("the CA is gone"))
    with pytest.raises(AuthorityUnavailable):
        await identity.renew()
    status = await asyncio.to_thread(client.status)
    (shown,) = status.identities
    assert (shown.name, shown.spiffe_id) == ("default", str(SPIFFE_ID))
    assert (shown.generation, shown.key_id, shown.next_renewal) == (0, b"", 0)
    assert shown.lease_end == 0
    assert shown.last_error == "the CA is gone"


async def test_a_status_holds_everything(
    client: AdminClient, world: World, identity: Identity
) -> None:
    await identity.renew()
    with identity.store.subscribe("sds", "ROOTCA") as subscription:
        await subscription.next()
        subscription.answer(1, "")
        subscription.answer(1, "no room")
        status = await asyncio.to_thread(client.status)
    assert (status.signed, status.refused, status.told_to_retry) == (5, 2, 1)
    assert (status.token.label, status.token.assurance) == ("fake", "software")
    assert status.token.hung == 0
    assert status.token.signatures == world.token.signatures == 1
    (shown,) = status.identities
    snapshot = identity.store.current
    assert snapshot
    assert shown.key_id == snapshot.key_id.value
    assert shown.serial == snapshot.chain.serial
    assert shown.not_after == int((world.clock() + LIFETIME).timestamp())
    assert shown.next_renewal == int((world.clock() + LIFETIME / 2).timestamp())
    assert shown.lease_end == shown.not_after
    (subscriber,) = shown.subscribers
    assert (subscriber.acked_generation, subscriber.error) == (1, "no room")
    assert (subscriber.kind, subscriber.resource) == ("sds", "ROOTCA")


async def test_a_rotation_answers_with_what_is_published(
    client: AdminClient, identity: Identity
) -> None:
    assert await asyncio.to_thread(client.rotate, "") == 1
    assert await asyncio.to_thread(client.rotate, "default") == 2
    assert identity.store.generation == 2


async def test_a_failed_rotation_says_why_and_keeps_the_identity(
    client: AdminClient, world: World, identity: Identity
) -> None:
    await identity.renew()
    world.authority.failures.append(AuthorityUnavailable("the CA is gone"))
    with pytest.raises(CommandFailed, match="the CA is gone"):
        await asyncio.to_thread(client.rotate, "default")
    assert identity.store.generation == 1


async def test_an_unknown_identity_is_named(client: AdminClient) -> None:
    with pytest.raises(CommandFailed, match="no identity 'nobody' here"):
        await asyncio.to_thread(client.rotate, "nobody")


def test_a_process_that_is_not_there_is_named(short_dir: Path) -> None:
    with (
        AdminClient(short_dir / "gone") as client,
        pytest.raises(CommandFailed, match=r"gone: is the process running?"),
    ):
        client.status()
