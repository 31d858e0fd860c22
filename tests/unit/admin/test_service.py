"""Status and commands over a real socket, from the blocking client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar._proto.meshkey.admin.v1 import admin_pb2_grpc
from sidecar.admin.base import Reloaded
from sidecar.admin.client import AdminClient, CommandFailed
from sidecar.admin.observed import Observed
from sidecar.admin.service import AdminService, ObserverService
from sidecar.core.process import CallingProcess
from sidecar.core.schemes import SignatureScheme
from sidecar.errors import AuthorityUnavailable, ConfigurationError, NoSuchKey, ReloadRefused
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.rpc.sockets import bind, unix_server
from sidecar.telemetry import SigningCounts
from tests.fakes.reloads import FakeReloads
from tests.fixtures.enrolment import LIFETIME, SPIFFE_ID, World
from tests.fixtures.journal import RememberedJournal
from tests.fixtures.waiting import soon

COUNTS = SigningCounts()
COUNTS.of(SignatureScheme.ED25519).signed = 5
COUNTS.of(0).refused = 2
COUNTS.of(SignatureScheme.ED25519).told_to_retry = 1


async def _somebody(_peer: str) -> CallingProcess:
    return CallingProcess(uid=1000, pid=4711, executable="ab12")


@pytest.fixture
def reloads() -> FakeReloads:
    return FakeReloads()


@pytest.fixture
def journal() -> RememberedJournal:
    return RememberedJournal()


@pytest.fixture
async def client(
    world: World, identity: Identity, reloads: FakeReloads, journal: RememberedJournal
) -> AsyncIterator[AdminClient]:
    server = unix_server()
    registry = IdentityRegistry([identity])
    seen = Observed(world.token, world.executor, registry, signing=COUNTS)
    admin_pb2_grpc.add_ObserverServicer_to_server(ObserverService(seen), server)
    commands = AdminService(registry, reloads, _somebody, journal)
    admin_pb2_grpc.add_AdminServicer_to_server(commands, server)
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


async def test_a_deprovisioned_identity_is_shown_as_one_and_is_not_rotated(
    client: AdminClient, world: World, identity: Identity
) -> None:
    await identity.renew()
    current = identity.store.current
    assert current
    response = await asyncio.to_thread(client.deprovision, "")
    assert (response.identity, response.tombstone) == ("default", "")
    assert list(response.destroyed) == [current.key_id.value]
    (certificate,) = response.certificates
    assert (certificate.serial, certificate.key_id) == (
        current.chain.serial,
        current.key_id.value,
    )
    assert certificate.issuer == world.authority.root.certificate.subject.rfc4514_string()
    assert certificate.not_after == int(current.chain.not_after.timestamp())
    (shown,) = (await asyncio.to_thread(client.status)).identities
    assert (shown.health, shown.generation, shown.key_id) == ("deprovisioned", 0, b"")
    assert shown.deprovisioned_at == int(world.clock().timestamp())
    assert await asyncio.to_thread(client.health) == []
    with pytest.raises(CommandFailed, match="bring it back with: meshkey reinstate default"):
        await asyncio.to_thread(client.rotate, "default")
    await asyncio.to_thread(client.reinstate, "default")
    assert await asyncio.to_thread(client.health) == ["identity 'default': no certificate yet"]
    with pytest.raises(CommandFailed, match="'default' is not deprovisioned"):
        await asyncio.to_thread(client.reinstate, "default")
    assert await asyncio.to_thread(client.rotate, "default") == 3


async def test_what_could_not_be_done_is_in_the_answer(
    client: AdminClient, world: World, identity: Identity
) -> None:
    await identity.renew()
    world.token.available = False
    response = await asyncio.to_thread(client.deprovision, "default")
    assert "token 'fake' is not there" in response.problems[0]


async def test_an_end_goes_on_when_whoever_asked_for_it_has_gone(
    client: AdminClient, world: World, identity: Identity
) -> None:
    await identity.renew()
    async with identity.renewing:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("sidecar.admin.client._ENDING_S", 0.2)
            with pytest.raises(CommandFailed, match="what was begun goes on"):
                await asyncio.to_thread(client.deprovision, "default")
        assert world.token.held_keys
        assert not identity.keyring.grants
    await soon(lambda: not world.token.held_keys)


async def test_the_keys_of_a_process_are_listed_with_what_they_are_for(
    client: AdminClient, world: World, identity: Identity
) -> None:
    assert await asyncio.to_thread(client.keys) == []
    await identity.renew()
    with identity.store.subscribe():
        await identity.renew()
        await identity.renew()
        revoked, retiring, current = [grant.key_id for grant in identity.keyring.grants]
        await asyncio.to_thread(client.revoke, revoked.value)
        keys = await asyncio.to_thread(client.keys)
    not_after = int((world.clock() + LIFETIME).timestamp())
    assert [
        (key.key_id, key.state, key.generation, key.origin, key.identity, key.not_after)
        for key in keys
    ] == [
        (current.value, "current", 3, "born", "default", not_after),
        (retiring.value, "retiring", 2, "born", "default", not_after),
        (revoked.value, "revoked", 1, "born", "default", not_after),
    ]


async def test_a_key_of_nobody_is_no_such_key_and_no_other_is_named(
    client: AdminClient, identity: Identity
) -> None:
    await identity.renew()
    with pytest.raises(NoSuchKey) as refused:
        await asyncio.to_thread(client.revoke, b"")
    assert str(refused.value) == (
        "no key 0102 in this process; list those that sign with: meshkey keys live"
    )


async def test_a_key_without_a_successor_is_what_keeps_the_process_from_its_work(
    client: AdminClient, identity: Identity
) -> None:
    await identity.renew()
    current = identity.store.current
    assert current
    await asyncio.to_thread(client.revoke, current.key_id.value)
    (problem,) = await asyncio.to_thread(client.health)
    assert problem == "identity 'default': its key was revoked, and there is no other yet"


async def test_a_reload_says_what_changed_or_what_is_in_the_way(
    client: AdminClient, reloads: FakeReloads
) -> None:
    reloads.answer = Reloaded(("log.level",), "ab12")
    response = await asyncio.to_thread(client.reload)
    assert (list(response.changed), response.configuration_sha256) == (["log.level"], "ab12")
    reloads.answer = ReloadRefused("token.label: needs a restart")
    with pytest.raises(ConfigurationError, match=r"^token.label: needs a restart$"):
        await asyncio.to_thread(client.reload)


async def test_who_has_given_a_command_is_recorded_also_of_one_that_is_refused(
    client: AdminClient, journal: RememberedJournal
) -> None:
    with pytest.raises(CommandFailed):
        await asyncio.to_thread(client.deprovision, "nobody" * 100)
    with pytest.raises(NoSuchKey):
        await asyncio.to_thread(client.revoke, b"\x0a")
    await asyncio.to_thread(client.deprovision, "")
    caller = {"uid": 1000, "pid": 4711, "executable_sha256": "ab12"}
    assert [facts for event, facts in journal.records if event == "command"] == [
        {"caller": caller, "command": "deprovision", "identity": ("nobody" * 100)[:64]},
        {"caller": caller, "command": "revoke", "key_id": "0a"},
        {"caller": caller, "command": "deprovision", "identity": "default"},
    ]


def test_a_process_that_is_not_there_is_named(short_dir: Path) -> None:
    with (
        AdminClient(short_dir / "gone") as client,
        pytest.raises(CommandFailed, match=r"gone: is the process running?"),
    ):
        client.status()
