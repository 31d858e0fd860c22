"""One identity over its life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.core import rotation
from sidecar.core.certificate_verify import Side
from sidecar.core.purpose import SigningPurpose
from sidecar.core.rotation import Health
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from sidecar.errors import (
    AuthorityError,
    AuthorityUnavailable,
    CertificateRefused,
    KeyChanged,
    MeshkeyError,
    NoSuchKey,
    PinRefused,
    TokenFull,
)
from sidecar.identity import identity as module
from sidecar.identity.identity import Identity
from sidecar.identity.snapshot import Snapshot
from sidecar.identity.store import Subscription
from sidecar.token.base import TokenKey
from sidecar.trust.pem_file import PemFile
from tests.fixtures import certificates
from tests.fixtures.enrolment import LIFETIME, SPIFFE_ID, World
from tests.fixtures.requests import SCHEME
from tests.fixtures.waiting import settle, soon


@asynccontextmanager
async def _running(identity: Identity) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(identity.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _published(identity: Identity, generation: int) -> Snapshot:
    await soon(lambda: identity.store.generation >= generation, f"generation {generation}")
    assert identity.store.current
    return identity.store.current


async def _next(subscription: Subscription) -> Snapshot:
    snapshot = await subscription.next()
    assert isinstance(snapshot, Snapshot)
    return snapshot


@pytest.fixture(autouse=True)
def _short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TICK_S", 0.01)


async def test_the_first_snapshot_is_published_at_once(world: World) -> None:
    identity = world.identity(sides=frozenset([Side.CLIENT]))
    assert identity.next_renewal is None
    async with _running(identity):
        snapshot = await _published(identity, 1)
    assert snapshot.generation == 1
    assert snapshot.spiffe_id == SPIFFE_ID
    assert snapshot.schemes == (SCHEME,)
    assert world.token.held_keys == {snapshot.key_id}
    grant = identity.keyring.grant(snapshot.key_id)
    assert grant
    assert grant.purposes == {SigningPurpose.TLS13_CLIENT_CERTIFICATE_VERIFY}
    assert grant.leaves == (snapshot.chain.certificates[0],)
    assert grant.not_after == snapshot.chain.not_after
    assert identity.next_renewal == world.clock() + LIFETIME / 2


async def test_nothing_is_renewed_before_half_of_the_lifetime(world: World) -> None:
    identity = world.identity()
    async with _running(identity):
        await _published(identity, 1)
        world.clock.advance(LIFETIME / 2 - timedelta(seconds=1))
        # Many looks at the clock later nothing has happened.
        await soon(_counter(5))
        assert identity.store.generation == 1


async def test_a_rotation_that_is_under_way_when_a_renewal_comes_due_replaces_it(
    world: World,
) -> None:
    identity = world.identity()
    async with _running(identity):
        await _published(identity, 1)
        world.authority.open.clear()
        rotation = asyncio.create_task(identity.renew())
        await soon(lambda: len(world.authority.requests) == 2)
        world.clock.advance(LIFETIME / 2)
        await soon(_counter(5))
        world.authority.open.set()
        assert await rotation == 2
        await soon(_counter(5))
        assert identity.store.generation == len(world.authority.requests) == 2


async def test_renewal_is_make_before_break(world: World) -> None:
    identity = world.identity()
    async with _running(identity):
        old = await _published(identity, 1)
        with identity.store.subscribe() as subscription:
            await subscription.next()
            subscription.answer(1, "")
            world.clock.advance(LIFETIME / 2)
            new = await _published(identity, 2)
            await settle()
            # Both keys sign until the new generation is acknowledged.
            assert new.key_id != old.key_id
            assert identity.keyring.grant(old.key_id)
            assert identity.keyring.grant(new.key_id)
            assert world.token.held_keys == {old.key_id, new.key_id}
            await subscription.next()
            subscription.answer(2, "")
            await soon(lambda: world.token.held_keys == {new.key_id})
            assert identity.keyring.grant(old.key_id) is None
            assert identity.keyring.grant(new.key_id)


async def test_a_key_may_sign_before_anyone_hears_of_it(world: World) -> None:
    identity = world.identity()
    seen: list[bool] = []
    publish = identity.store.publish

    def check(snapshot: Snapshot) -> None:
        seen.append(identity.keyring.grant(snapshot.key_id) is not None)
        publish(snapshot)

    identity.store.publish = check  # type: ignore[method-assign]
    await identity.renew()
    assert seen == [True]


async def test_a_refused_generation_keeps_the_old_key_signing(world: World) -> None:
    identity = world.identity()
    await identity.renew()
    old = await _published(identity, 1)
    with identity.store.subscribe() as subscription:
        await identity.renew()
        new = await _next(subscription)
        subscription.answer(new.generation, "the chain does not verify here")
        await settle()
        assert identity.keyring.grant(old.key_id)
        assert world.token.held_keys == {old.key_id, new.key_id}


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (AuthorityUnavailable("gone"), "gone"),
        (AuthorityError("no"), "no"),
        (CertificateRefused("bad"), "fake: bad"),
    ],
)
async def test_a_failed_renewal_keeps_the_valid_pair_and_leaves_no_key(
    world: World, failure: MeshkeyError, told: str
) -> None:
    identity = world.identity()
    await identity.renew()
    snapshot = await _published(identity, 1)
    world.authority.failures.append(failure)
    with pytest.raises(type(failure)):
        await identity.renew()
    assert identity.store.current is snapshot
    assert identity.keyring.grant(snapshot.key_id)
    assert world.token.held_keys == {snapshot.key_id}
    assert identity.last_error == told


async def test_the_last_error_goes_when_a_renewal_succeeds(world: World) -> None:
    identity = world.identity()
    world.authority.failures.append(AuthorityError("no"))
    with pytest.raises(AuthorityError):
        await identity.renew()
    assert identity.last_error == "no"
    assert await identity.renew() == 1
    assert identity.last_error == ""


async def test_failures_are_retried_with_a_growing_delay_that_success_resets(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def delay(failures: int, random: float) -> timedelta:
        assert 0 <= random < 1
        counted.append(failures)
        return timedelta(0)

    monkeypatch.setattr(rotation, "retry_delay", delay)
    identity = world.identity()
    world.authority.failures += [AuthorityUnavailable("gone")] * 3
    async with _running(identity):
        await _published(identity, 1)
        assert counted == [1, 2, 3]
        world.authority.failures += [AuthorityUnavailable("gone")] * 2
        world.clock.advance(LIFETIME / 2)
        await _published(identity, 2)
        assert counted == [1, 2, 3, 1, 2]


async def test_a_lost_token_is_no_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = _counter(3)

    def delay(_failures: int, _random: float) -> timedelta:
        world.token.available = tries()
        return timedelta(0)

    monkeypatch.setattr(rotation, "retry_delay", delay)
    world.token.available = False
    identity = world.identity()
    async with _running(identity):
        await _published(identity, 1)


async def test_a_refused_pin_is_no_end_either(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, generate = _counter(3), world.token.generate

    def refused(algorithm: KeyAlgorithm, label: str) -> TokenKey:
        if tries():
            return generate(algorithm, label)
        raise PinRefused("wrong PIN")

    monkeypatch.setattr(rotation, "retry_delay", lambda _failures, _random: timedelta(0))
    monkeypatch.setattr(world.token, "generate", refused)
    identity = world.identity()
    async with _running(identity):
        await _published(identity, 1)


async def test_a_bug_takes_no_valid_certificate_away_and_is_not_hidden(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "retry_delay", lambda *_: timedelta(0))
    identity = world.identity()
    await identity.renew()
    first = await _published(identity, 1)
    world.authority.failures += [ZeroDivisionError()] * 2
    world.clock.advance(LIFETIME / 2)
    with capture_logs() as logged:
        async with _running(identity):
            await _published(identity, 2)
    failed = [entry for entry in logged if entry["event"] == "renewal failed"]
    assert [type(entry["exc_info"]) for entry in failed] == [ZeroDivisionError] * 2
    # Its grant goes a moment before it does.
    await soon(
        lambda: first.key_id not in world.token.held_keys or identity.keyring.grant(first.key_id)
    )


# Keys that the token has no more


async def test_a_key_that_the_token_lost_is_replaced_at_once(world: World) -> None:
    identity = world.identity()
    async with _running(identity):
        lost = await _published(identity, 1)
        with capture_logs() as logs:
            for _ in range(3):
                identity.replace(lost.key_id, NoSuchKey("no key 0a1f"))
            new = await _published(identity, 2)
            identity.replace(lost.key_id, NoSuchKey("no key 0a1f"))
        await soon(_counter(5))
        assert identity.store.generation == 2
    assert new.key_id != lost.key_id
    assert [e["event"] for e in logs if e["log_level"] == "error"] == ["key lost"]


async def test_keys_that_are_lost_one_after_the_other_are_replaced_with_a_growing_delay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def delay(failures: int, _random: float) -> timedelta:
        counted.append(failures)
        return timedelta(0)

    monkeypatch.setattr(rotation, "retry_delay", delay)
    identity = world.identity()
    async with _running(identity):
        for generation in range(1, 5):
            lost = await _published(identity, generation)
            identity.replace(lost.key_id, NoSuchKey("no key 0a1f"))
        await _published(identity, 5)
        assert counted == [1, 2, 3]
        # A renewal that nobody had to ask for ends that.
        await settle()
        world.clock.advance(LIFETIME / 2)
        lost = await _published(identity, 6)
        identity.replace(lost.key_id, NoSuchKey("no key 0a1f"))
        await _published(identity, 7)
        assert counted == [1, 2, 3]


async def test_a_replacement_that_fails_is_retried_with_back_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def delay(failures: int, _random: float) -> timedelta:
        counted.append(failures)
        return timedelta(0)

    monkeypatch.setattr(rotation, "retry_delay", delay)
    identity = world.identity()
    async with _running(identity):
        lost = await _published(identity, 1)
        world.authority.failures += [AuthorityUnavailable("gone")] * 3
        identity.replace(lost.key_id, NoSuchKey("no key 0a1f"))
        await _published(identity, 2)
    assert counted == [1, 2, 3]


async def test_the_loss_of_a_key_that_is_replaced_already_changes_nothing(world: World) -> None:
    identity = world.identity()
    async with _running(identity):
        old = await _published(identity, 1)
        await identity.renew()
        identity.replace(old.key_id, NoSuchKey("no key 0a1f"))
        await soon(_counter(5))
        assert identity.store.generation == 2


async def test_a_key_that_is_another_one_raises_an_alarm_and_is_not_destroyed(
    world: World,
) -> None:
    identity = world.identity()
    async with _running(identity):
        changed = await _published(identity, 1)
        with capture_logs() as logs:
            identity.replace(changed.key_id, KeyChanged("another key"))
            await _published(identity, 2)
        await soon(lambda: identity.keyring.grant(changed.key_id) is None, "it is retired")
        await settle()
    assert [e["event"] for e in logs if e["log_level"] == "critical"] == [
        "key changed on the token"
    ]
    # What is there is somebody else's.
    assert changed.key_id in world.token.held_keys


async def test_a_full_token_leaves_the_identity_in_use_alone(world: World) -> None:
    identity = world.identity()
    await identity.renew()
    first = await _published(identity, 1)
    world.token.room = 1
    with pytest.raises(TokenFull):
        await identity.renew()
    assert "is full" in identity.last_error
    assert identity.store.current is first
    assert identity.keyring.grant(first.key_id)
    assert world.token.held_keys == {first.key_id}


async def test_only_what_the_token_was_seen_to_do_is_offered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.algorithm = KeyAlgorithm.RSA_2048
    seen = (SignatureScheme.RSA_PSS_RSAE_SHA256, SignatureScheme.RSA_PKCS1_SHA256)
    monkeypatch.setattr(world.token, "schemes", lambda _key: seen)
    identity = world.identity()
    await identity.renew()
    snapshot = await _published(identity, 1)
    assert snapshot.schemes == seen
    grant = identity.keyring.grant(snapshot.key_id)
    assert grant
    assert grant.schemes == frozenset(seen)


async def test_new_roots_are_trusted_before_there_is_a_leaf_under_them_and_old_ones_a_while_after(
    world: World,
) -> None:
    identity = world.identity()
    await identity.renew()
    first = await _published(identity, 1)
    old, new = world.authority.root, certificates.root("new")
    world.trust_bundle.write_bytes(new.pem + old.pem)
    world.authority.open.clear()
    with identity.store.subscribe() as subscription:
        await subscription.next()
        renewing = asyncio.create_task(identity.renew())
        announced = await _next(subscription)
        assert (announced.generation, announced.key_id) == (2, first.key_id)
        assert announced.bundles[0].der() == [new.der, old.der]
        await settle()
        assert len(world.authority.requests) == 1, "the new leaf waits for the acknowledgement"
        subscription.answer(2, "")
        world.authority.open.set()
        assert await renewing == 3
        assert (await _next(subscription)).bundles[0].der() == [new.der, old.der]
        subscription.answer(3, "")
        # The old root leaves the file: it goes when the last leaf under it has expired.
        world.authority.root = new
        world.trust_bundle.write_bytes(new.pem)
        await identity.renew()
        assert (await _next(subscription)).bundles[0].der() == [new.der, old.der]
        world.clock.advance(LIFETIME)
        await identity.renew()
        assert (await _next(subscription)).bundles[0].der() == [new.der]


async def test_without_readable_roots_no_key_is_even_made(world: World) -> None:
    world.trust_bundle.unlink()
    identity = world.identity()
    with pytest.raises(MeshkeyError, match=r"roots\.pem"):
        await identity.renew()
    assert "roots.pem" in identity.last_error
    assert not world.authority.requests
    assert not world.token.held_keys


async def test_the_trust_bundle_is_followed_without_a_renewal(world: World) -> None:
    identity = world.identity()
    async with _running(identity):
        first = await _published(identity, 1)
        new = certificates.root("new")
        world.trust_bundle.write_bytes(world.authority.root.pem + new.pem)
        world.clock.advance(timedelta(seconds=1))
        announced = await _published(identity, 2)
    assert announced.bundles[0].der() == [world.authority.root.der, new.der]
    assert (announced.key_id, announced.chain) == (first.key_id, first.chain)
    assert len(world.authority.requests) == 1


async def test_a_trust_bundle_that_goes_bad_takes_nothing_away(world: World) -> None:
    identity = world.identity()
    async with _running(identity):
        first = await _published(identity, 1)
        with capture_logs() as logs:
            world.trust_bundle.write_bytes(b"half a certi")
            world.clock.advance(timedelta(seconds=1))
            await soon(lambda: identity.anchors.errors)
            world.clock.advance(LIFETIME / 2)
            second = await _published(identity, 2)
    assert second.bundles == first.bundles
    assert [e["event"] for e in logs].count("trust source failed") == 1


async def test_a_renewal_waits_until_new_roots_have_been_published_for_a_while(
    world: World,
) -> None:
    settle = timedelta(minutes=3)
    world.schedule = replace(world.schedule, root_settle=settle)
    identity = world.identity()
    async with _running(identity):
        await _published(identity, 1)
        world.clock.advance(LIFETIME / 2 - timedelta(minutes=1))
        new = certificates.root("new")
        world.trust_bundle.write_bytes(world.authority.root.pem + new.pem)
        await _published(identity, 2)
        world.clock.advance(timedelta(minutes=1, seconds=1))
        await soon(_counter(5))
        assert len(world.authority.requests) == 1, "it is due, but the root has not settled"
        world.clock.advance(settle)
        await _published(identity, 3)
        assert len(world.authority.requests) == 2


async def test_a_root_that_is_first_seen_when_a_renewal_is_due_settles_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A source that is looked at as seldom as a ClusterTrustBundle.
    monkeypatch.setattr(PemFile, "interval", LIFETIME)
    settle = timedelta(minutes=3)
    world.schedule = replace(world.schedule, root_settle=settle)
    identity = world.identity()
    async with _running(identity):
        await _published(identity, 1)
        new = certificates.root("new")
        world.trust_bundle.write_bytes(world.authority.root.pem + new.pem)
        world.clock.advance(LIFETIME / 2 + timedelta(seconds=1))
        await _published(identity, 2)
        await soon(_counter(5))
        assert len(world.authority.requests) == 1, "it is due, but the root has not settled"
        world.clock.advance(settle)
        await _published(identity, 3)
        assert len(world.authority.requests) == 2


async def test_after_a_clock_jump_it_is_renewed_at_once(world: World) -> None:
    identity = world.identity()
    async with _running(identity):
        await _published(identity, 1)
        world.clock.advance(timedelta(seconds=31))
        await soon(_counter(5))
        assert identity.store.generation == 1
        with capture_logs() as logs:
            world.clock.jump(timedelta(minutes=3))
            await _published(identity, 2)
        assert "clock jumped, renewing" in [e["event"] for e in logs]


async def test_the_alarm_rises_while_renewals_fail_and_is_lifted_by_one_that_succeeds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "retry_delay", lambda *_: timedelta(seconds=1))
    identity = world.identity()
    assert identity.health is Health.WAITING
    async with _running(identity):
        first = await _published(identity, 1)
        world.authority.available = False
        with capture_logs() as logs:
            for part, health in ((0.8, Health.LATE), (0.15, Health.CRITICAL), (1, Health.EXPIRED)):
                world.clock.advance(LIFETIME * part)
                await soon(lambda: identity.health is health)  # noqa: B023
                await soon(_counter(3))
            assert identity.keyring.grant(first.key_id) is None
            world.authority.available = True
            world.clock.advance(timedelta(seconds=1))
            await _published(identity, 2)
            await soon(_counter(3))
    assert _alarms(logs) == [
        ("certificate not renewed in time", "warning"),
        ("certificate about to expire", "error"),
        ("certificate expired, nothing is signed", "critical"),
        ("certificate valid again", "info"),
    ]


def _alarms(logs: Sequence[MutableMapping[str, Any]]) -> list[tuple[str, str]]:
    return [
        (entry["event"], entry["log_level"])
        for entry in logs
        if entry["event"].startswith("certificate ") and entry["event"] != "certificate published"
    ]


async def test_two_renewals_at_once_take_turns(world: World) -> None:
    identity = world.identity()
    generations = await asyncio.gather(identity.renew(), identity.renew(), identity.renew())
    assert sorted(generations) == [1, 2, 3]
    newest = await _published(identity, 3)
    await soon(lambda: world.token.held_keys == {newest.key_id})


async def test_closing_waits_for_a_renewal_and_destroys_its_key_too(world: World) -> None:
    identity = world.identity()
    await identity.renew()
    world.authority.open.clear()
    renewing = asyncio.create_task(identity.renew())
    await soon(lambda: len(world.authority.requests) == 2)
    closing = asyncio.create_task(identity.close())
    await settle()
    assert not closing.done()
    renewing.cancel()
    await closing
    assert not world.token.held_keys
    with pytest.raises(asyncio.CancelledError):
        await renewing


class _counter:  # noqa: N801  # used like a function
    """True from the n-th call on."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    def __call__(self) -> bool:
        self._left -= 1
        return self._left <= 0


async def test_renewals_are_counted_whoever_asked_for_them(world: World) -> None:
    identity = world.identity()
    await identity.renew()
    for error in (AuthorityUnavailable("gone"), AuthorityError("no")):
        world.authority.failures.append(error)
        with pytest.raises(type(error)):
            await identity.renew()
    async with _running(identity):
        world.clock.advance(LIFETIME)
        await _published(identity, 2)
    assert (identity.renewals.succeeded, identity.renewals.failed) == (2, 2)


async def test_a_root_that_goes_while_the_authority_takes_its_time_vouches_for_nothing(
    world: World,
) -> None:
    identity = world.identity()
    world.authority.open.clear()
    async with _running(identity):
        await soon(lambda: world.authority.requests)
        world.trust_bundle.write_bytes(certificates.root("another").pem)
        world.clock.advance(timedelta(seconds=2))
        await soon(lambda: identity.anchors.own.roots != (world.authority.root.certificate,))
        world.authority.open.set()
        await soon(lambda: identity.last_error)
    assert "does not lead to a trusted root" in identity.last_error
    assert identity.store.current is None
