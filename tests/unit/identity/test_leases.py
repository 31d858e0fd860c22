"""No key signs longer than its lease, whatever its certificate says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from sidecar.core import rotation
from sidecar.core.lease import LeaseTerms
from sidecar.core.rotation import Health
from sidecar.errors import (
    AuthorityError,
    AuthorityUnavailable,
    CertificateRefused,
    KeyChanged,
    MeshkeyError,
    NoSuchKey,
    RefusalReason,
    SignerBusy,
    SigningRefused,
    TokenFull,
    TokenUnavailable,
    TrustUnavailable,
)
from sidecar.identity import identity as module
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.identity.snapshot import Snapshot
from sidecar.signer.policy import approve
from sidecar.token.base import KeyId
from tests.fakes.callers import everything_of
from tests.fixtures.enrolment import LIFETIME, World
from tests.fixtures.requests import ALGORITHM, sign_request
from tests.fixtures.waiting import settle, soon

LENGTH, GRACE = timedelta(minutes=10), timedelta(minutes=4)
SECOND = timedelta(seconds=1)
EVERYTHING = everything_of("default")


@pytest.fixture
def world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """One whose leases are shorter than its certificates."""
    monkeypatch.setattr(module, "_TICK_S", 0.01)
    world.terms = LeaseTerms(LENGTH, GRACE)
    return world


@pytest.fixture
async def identity(world: World) -> Identity:
    made = world.identity()
    await made.renew()
    return made


@asynccontextmanager
async def _running(identity: Identity) -> AsyncIterator[None]:
    task = asyncio.create_task(identity.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _current(identity: Identity) -> Snapshot:
    assert identity.store.current
    return identity.store.current


def _signs(identity: Identity, key_id: KeyId | None = None) -> bool:
    """Whether a handshake would be approved; nothing but the lease may stand against it."""
    registry = IdentityRegistry([identity])
    try:
        approve(sign_request(key_id or _current(identity).key_id), registry.grant, EVERYTHING)
    except SigningRefused as error:
        if error.reason is not RefusalReason.LEASE:
            raise
        return False
    return True


async def _fails(identity: Identity, world: World, error: MeshkeyError) -> None:
    world.authority.failures.append(error)
    with pytest.raises(type(error)):
        await identity.renew()


async def test_a_key_signs_until_the_end_of_its_lease_and_no_longer(
    world: World, identity: Identity
) -> None:
    world.clock.advance(LENGTH - timedelta(microseconds=1))
    assert _signs(identity)
    world.clock.advance(timedelta(microseconds=1))
    with pytest.raises(SigningRefused) as refused:
        identity.keyring.grant(_current(identity).key_id)
    assert refused.value.reason is RefusalReason.LEASE
    assert str(refused.value) == (
        "the key's lease is over: no CA has issued a certificate since "
        "2030-01-01T12:00:00+00:00; see last error in: meshkey status"
    )


async def test_whoever_may_not_have_the_key_does_not_learn_that_its_lease_is_over(
    world: World, identity: Identity
) -> None:
    request = sign_request(_current(identity).key_id)
    registry = IdentityRegistry([identity, world.identity(name="other")])
    world.clock.advance(LENGTH)
    with pytest.raises(SigningRefused) as refused:
        approve(request, registry.grant, everything_of("other"))
    assert refused.value.reason is RefusalReason.UNKNOWN_KEY


async def test_an_expired_certificate_is_refused_as_ever_whatever_the_lease(
    world: World, identity: Identity
) -> None:
    # A wall clock that is set forward takes away, though the lease goes on.
    world.clock.jump(LIFETIME)
    assert identity.keyring.grant(_current(identity).key_id) is None


@pytest.mark.parametrize("terms", [LeaseTerms(), LeaseTerms(LENGTH)])
async def test_a_wall_clock_that_is_set_back_extends_nothing(
    world: World, terms: LeaseTerms
) -> None:
    world.terms = terms
    identity = world.identity()
    await identity.renew()
    end = terms.length or LIFETIME
    world.clock.advance(end - SECOND)
    world.clock.jump(-timedelta(days=30))
    assert _signs(identity)
    world.clock.advance(SECOND)
    assert not _signs(identity)


async def test_a_lease_runs_out_while_the_machine_sleeps(world: World, identity: Identity) -> None:
    world.clock.suspend(LENGTH)
    assert not _signs(identity)


async def test_a_lease_runs_out_in_a_sleep_that_the_wall_clock_does_not_know_of(
    world: World, identity: Identity
) -> None:
    world.clock.suspend(LENGTH)
    world.clock.jump(-LENGTH)
    assert not _signs(identity)


async def test_a_renewal_is_planned_for_half_of_the_lease(world: World, identity: Identity) -> None:
    assert identity.next_renewal == world.clock() + LENGTH / 2
    assert identity.lease_end == world.clock() + LENGTH


async def test_without_a_lease_of_its_own_a_key_is_renewed_and_ends_as_its_certificate(
    world: World,
) -> None:
    world.terms = LeaseTerms()
    identity = world.identity()
    await identity.renew()
    assert identity.next_renewal == world.clock() + LIFETIME / 2
    assert identity.lease_end == _current(identity).chain.not_after


@pytest.mark.parametrize("error", [AuthorityUnavailable("gone"), TrustUnavailable("no roots")])
async def test_the_grace_counts_while_no_ca_can_be_asked(
    world: World, identity: Identity, error: MeshkeyError
) -> None:
    end = world.clock() + LENGTH
    with capture_logs() as logs:
        for _ in range(2):
            await _fails(identity, world, error)
    assert [e["until"] for e in logs if e["event"] == "lease extended, no CA answers"] == [
        (end + GRACE).isoformat()
    ]
    assert identity.lease_end == end + GRACE
    world.clock.advance(LENGTH + GRACE - SECOND)
    assert _signs(identity)
    health = [identity.health]
    world.clock.advance(SECOND)
    assert not _signs(identity)
    assert [*health, identity.health] == [Health.CRITICAL, Health.LAPSED]


async def test_the_grace_does_not_reach_beyond_the_certificate(world: World) -> None:
    world.terms = LeaseTerms(LENGTH, timedelta(days=1))
    identity = world.identity()
    await identity.renew()
    await _fails(identity, world, AuthorityUnavailable("gone"))
    assert identity.lease_end == _current(identity).chain.not_after
    # Nor by a clock that was set back.
    world.clock.advance(LIFETIME - SECOND)
    world.clock.jump(-timedelta(days=1))
    assert _signs(identity)
    world.clock.advance(SECOND)
    assert not _signs(identity)


async def test_there_is_no_grace_for_what_a_ca_refuses_whether_it_can_be_reached_or_not(
    world: World, identity: Identity
) -> None:
    end = world.clock() + LENGTH
    await _fails(identity, world, AuthorityUnavailable("gone"))
    assert identity.lease_end == end + GRACE
    with capture_logs() as logs:
        await _fails(identity, world, AuthorityError("no"))
    assert "CA refused, no grace" in [e["event"] for e in logs]
    assert identity.lease_end == end
    # Whoever was refused and cuts the network then wins nothing.
    await _fails(identity, world, AuthorityUnavailable("gone"))
    world.clock.advance(LENGTH)
    assert not _signs(identity)
    # An answer ends that, too.
    await identity.renew()
    await _fails(identity, world, AuthorityUnavailable("gone"))
    assert identity.lease_end == world.clock() + LENGTH + GRACE


@pytest.mark.parametrize(
    "error",
    [
        CertificateRefused("bad"),
        TokenFull("full"),
        # Callers that flood the token must not win their key a longer life.
        TokenUnavailable("gone"),
        SignerBusy("flooded"),
    ],
)
async def test_what_says_nothing_about_the_ca_changes_no_lease(
    world: World, identity: Identity, error: MeshkeyError
) -> None:
    end = identity.lease_end
    await _fails(identity, world, error)
    assert identity.lease_end == end
    await _fails(identity, world, AuthorityUnavailable("gone"))
    assert identity.lease_end == _current(identity).chain.not_before + timedelta(minutes=2) + (
        LENGTH + GRACE
    )


async def test_a_failure_before_the_first_certificate_is_about_no_lease(world: World) -> None:
    identity = world.identity()
    await _fails(identity, world, AuthorityUnavailable("gone"))
    assert identity.lease_end is None
    assert identity.health is Health.WAITING


async def test_a_key_that_was_replaced_goes_on_under_its_own_lease(
    world: World, identity: Identity
) -> None:
    old = _current(identity).key_id
    with identity.store.subscribe():  # who acknowledges nothing
        world.clock.advance(LENGTH / 2)
        await identity.renew()
        await settle()
        assert _signs(identity, old)
        # What becomes of later renewals is nothing to it.
        await _fails(identity, world, AuthorityUnavailable("gone"))
        world.clock.advance(LENGTH / 2)
        assert not _signs(identity, old)
        assert _signs(identity)


async def test_a_key_without_a_lease_signs_nothing(world: World, identity: Identity) -> None:
    key_id = _current(identity).key_id
    identity.keyring.leases.drop(key_id)
    assert not _signs(identity)
    assert identity.health is Health.LAPSED
    assert identity.lease_end is None


async def test_signing_ends_with_the_lease_and_comes_back_with_the_ca(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "retry_delay", lambda *_: SECOND)
    identity = world.identity()
    async with _running(identity):
        await soon(lambda: identity.store.current)
        first = _current(identity)
        world.authority.available = False
        with capture_logs() as logs:
            world.clock.advance(LENGTH + GRACE)
            await soon(lambda: identity.renewals.failed, "the CA is asked in vain")
            await soon(lambda: identity.health is Health.LAPSED)
            assert world.clock() < first.chain.not_after
            assert not _signs(identity)
            await soon(lambda: [e for e in logs if e["log_level"] == "critical"])
            world.authority.available = True
            world.clock.advance(SECOND)
            await soon(lambda: identity.store.generation == 2)
            assert _signs(identity)
            assert identity.health is Health.VALID
            await soon(lambda: [e for e in logs if e["event"] == "certificate valid again"])
    assert [e["event"] for e in logs if e["log_level"] == "critical"] == [
        "lease over, nothing is signed"
    ]


async def test_after_a_sleep_it_is_renewed_at_once_and_signs_when_the_ca_has_answered(
    world: World,
) -> None:
    identity = world.identity()
    async with _running(identity):
        await soon(lambda: identity.store.current)
        world.clock.advance(timedelta(seconds=31))
        world.authority.open.clear()
        world.clock.suspend(LENGTH + GRACE)
        await soon(lambda: len(world.authority.requests) == 2)
        assert not _signs(identity)
        world.authority.open.set()
        await soon(lambda: identity.store.generation == 2)
        assert _signs(identity)


async def test_a_given_key_has_the_lease_of_its_newest_certificate(world: World) -> None:
    key = await world.executor.run(lambda: world.token.generate(ALGORITHM, "given"))
    world.given = key.id
    identity = world.identity()
    await identity.renew()
    world.clock.advance(LENGTH)
    assert not _signs(identity)
    await identity.renew()
    assert _signs(identity)
    granted = identity.keyring.grant(key.id)
    assert granted
    # TLS 1.2 handshakes that show the certificate before still count.
    assert len(granted.leaves) == 2


@pytest.mark.parametrize("error", [NoSuchKey("no key"), KeyChanged("another key")])
async def test_a_key_that_the_token_lost_is_replaced_also_when_its_lease_is_over(
    world: World, identity: Identity, error: NoSuchKey | KeyChanged
) -> None:
    world.clock.advance(LENGTH)
    key_id = _current(identity).key_id
    registry = IdentityRegistry([identity])
    with capture_logs() as logs:
        registry.replace(key_id, error)
    assert {e["event"] for e in logs} & {"key lost", "key changed on the token"}
