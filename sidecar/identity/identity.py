"""One identity, kept valid for as long as the process lives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from sidecar.core.rotation import Health, Moment, Rotation, RotationPolicy
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import IdentityDeprovisioned, KeyChanged, MeshkeyError, NoSuchKey, UnknownKey
from sidecar.identity.alarm import Alarm
from sidecar.identity.ended import Ended
from sidecar.identity.ending import Ending
from sidecar.identity.enrolment import Enrolled, Enrolment
from sidecar.identity.keyring import HANDSHAKE_TIMEOUT
from sidecar.identity.memory import Memory
from sidecar.identity.publisher import Publisher
from sidecar.identity.revoking import Revoking
from sidecar.identity.snapshot import Snapshot
from sidecar.telemetry import RenewalCounts
from sidecar.token.base import KeyId
from sidecar.trust.anchors import TrustAnchors

log = structlog.get_logger(__name__)

# Between two looks at the clocks and at the sources of roots.
_TICK_S = 1.0
# Between two attempts to clear away keys that were ended and would not go.
_AGAIN_S = 30.0


@dataclass(frozen=True)
class Schedule:
    """When an identity renews, and how long new roots are published before that."""

    policy: RotationPolicy
    root_settle: timedelta


class Identity:
    """Renews its certificate in time and publishes each new pair.

    Each has a new key, unless one is given. A failed renewal is retried with back-off and never
    takes the valid pair away. When exactly is decided by `core.rotation`; this is what acts.
    """

    def __init__(
        self,
        name: str,
        spiffe_id: SpiffeId,
        schedule: Schedule,
        anchors: TrustAnchors,
        enrolment: Enrolment,
        publisher: Publisher,
        memory: Memory,
        ending: Ending,
        revoking: Revoking,
        clock: Callable[[], Moment],
    ) -> None:
        self.name = name
        self.ending = ending
        self.spiffe_id = spiffe_id
        self.anchors = anchors
        self.publisher = publisher
        self.store = publisher.store
        self.keyring = publisher.keyring
        self.last_error = ""
        self.renewals = RenewalCounts()
        # Set when it is decided whether an earlier start's key is taken up again.
        self.begun = asyncio.Event()
        # Held while a key is made and certified, which `keyring` does not have until then.
        self.renewing = asyncio.Lock()
        self._settle = schedule.root_settle
        self._enrolment = enrolment
        self._memory = memory
        self._revoking = revoking
        self._clock = clock
        self._rotation = Rotation.start(schedule.policy, clock())
        self._alarm = Alarm(name)
        self._looking = asyncio.Lock()
        # Keys that the token does not have any more.
        self._lost: set[KeyId] = set()
        self._wake = asyncio.Event()
        # The newest roots that were waited for.
        self._awaited = 0

    @property
    def in_use(self) -> Snapshot | None:
        """What it serves with: nothing before the first, once it is deprovisioned, or while a key
        that was revoked has no successor.
        """
        current = self.store.current
        return current if current and self.keyring.holds(current.key_id) else None

    @property
    def next_renewal(self) -> datetime | None:
        """When the current certificate will be replaced; `None` before the first."""
        return self._rotation.next_attempt(self._clock()) if self.in_use else None

    @property
    def health(self) -> Health:
        """How its certificate, and the lease of its key, are doing now."""
        if self.ending.deprovisioned:
            return Health.DEPROVISIONED
        now = self._clock().wall
        health, current = self._rotation.health(now), self.store.current
        if current is None or health is Health.WAITING:
            return health
        return self.keyring.leases.health(health, now, current.chain.not_after)

    @property
    def lease_end(self) -> datetime | None:
        """When nothing is signed any more unless a CA answers; `None` before the first."""
        current = self.store.current
        return self.keyring.leases.end(current.chain.not_after) if current else None

    async def run(self) -> None:
        """Keeps the identity valid until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_watch())
            group.create_task(self._keep_valid())
            group.create_task(self._memory.follow())
            group.create_task(self._keep_cleared())

    async def renew(self) -> int:
        """Gets a new certificate now, for a new key unless one is given; returns its generation.

        Raises:
            IdentityDeprovisioned: it was, or is while this is under way.
            MeshkeyError: what went wrong; the identity in use stays.
        """
        async with self.renewing:
            self.ending.require_active()
            try:
                return await self.ending.while_active(self._renew_at_once())
            except IdentityDeprovisioned:
                raise
            except Exception as error:
                self._remember(error)
                raise

    async def deprovision(self) -> Ended:
        """Ends the identity: when this first awaits, nothing is signed any more.

        A renewal that is under way ends without a certificate. Go on with it once it has begun;
        what it could not do is tried again for as long as `run` does.
        """
        self.ending.stop()
        async with self.renewing:
            # A reinstatement may have been on its way.
            self.ending.stop()
            return await self.ending.bury()

    async def reinstate(self) -> None:
        """Lets it live again, with a new certificate that `run` gets, for a new key unless one
        is given.

        Raises:
            NotDeprovisioned: it lives.
            StateUnwritable: the tombstone stays, and so the identity is.
        """
        async with self.renewing:
            await self.ending.reinstate()
            # Nothing of before is taken up again.
            self.begun.set()
            self.last_error = ""
            self._rotation = self._rotation.anew(self._clock())
            self._wake.set()

    async def revoke(self, key_id: KeyId) -> Ended:
        """Ends a key: when this first awaits, nothing is signed with it any more.

        If it is the one in use, `run` replaces it at once. Go on with it once it has begun.

        Raises:
            UnknownKey: it is none of this identity's.
        """
        if not self.has(key_id):
            raise UnknownKey(
                f"identity {self.name!r} has no key {key_id}; list them with: meshkey keys live"
            )
        self._revoking.revoke(key_id)
        if self.store.current and self.store.current.key_id == key_id:
            self._rotation = self._rotation.anew(self._clock())
            self._wake.set()
        return await self._revoking.bury(key_id)

    def has(self, key_id: KeyId) -> bool:
        """Whether the key signs for this identity, or was revoked."""
        return self.keyring.holds(key_id) or key_id in self.publisher.revocations.own()

    def replace(self, key_id: KeyId, error: NoSuchKey | KeyChanged) -> None:
        """The token has no such key any more, or another one: says so once and wakes `run`."""
        changed = isinstance(error, KeyChanged)
        if changed:
            self.keyring.distrust(key_id)
        if key_id in self._lost:
            return
        self._lost.add(key_id)
        if changed:
            log.critical("key changed on the token", identity=self.name, error=str(error))
        else:
            log.error("key lost", identity=self.name, error=str(error))
        self.publisher.record_loss(key_id, changed=changed)
        if self.store.current and self.store.current.key_id == key_id:
            self._rotation = self._rotation.lost(self._clock(), _chance())
            self._wake.set()

    async def close(self) -> None:
        """Destroys the keys that no later start takes up.

        Waits until a renewal that is under way has cleaned up.
        """
        async with self.renewing:
            current = self.store.current
            kept = {current.key_id} if current and self._memory.lasts else set()
            await self.keyring.close(kept)
            await self._memory.note()

    async def _keep_watch(self) -> None:
        """Looks at the clocks, the roots and the time that is left."""
        while True:
            await asyncio.sleep(_TICK_S)
            due = self._rotation.due
            self._rotation = self._rotation.observed(self._clock())
            if self._rotation.due != due:
                log.warning("clock jumped, renewing", identity=self.name)
                self._wake.set()
            if self.begun.is_set():
                await self._follow_roots()
            self._alarm.observe(self.health, self.last_error)

    async def _keep_valid(self) -> None:
        while True:
            await self._until_due()
            try:
                async with self.renewing:
                    # Not if a rotation on command was faster.
                    if not self.ending.deprovisioned and not self._rotation.wait(self._clock()):
                        await self.ending.while_active(self._renew_or_take_up())
            except IdentityDeprovisioned:
                continue  # that is no failure
            except Exception as error:  # not even a bug takes a valid pair away
                self._remember(error)
                self._rotation = self._rotation.failed(self._clock(), _chance())
                log.error(
                    "renewal failed",
                    identity=self.name,
                    error=str(error),
                    retry_in_s=round(self._rotation.wait(self._clock()).total_seconds(), 1),
                    exc_info=None if isinstance(error, MeshkeyError) else error,
                )

    async def _until_due(self) -> None:
        while wait := self._wait():
            self._wake.clear()
            with suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it may lose a cancellation.
                async with asyncio.timeout(min(wait.total_seconds(), _TICK_S)):
                    await self._wake.wait()

    def _wait(self) -> timedelta:
        """How long it is until the next attempt, which waits for roots to settle."""
        if self.ending.deprovisioned:
            return timedelta.max
        now = self._clock()
        settled = self.anchors.settled_at(self._settle)
        if settled and not self._rotation.wait(now):
            self._rotation = self._rotation.postponed(now, settled, _chance())
        return self._rotation.wait(now)

    async def _renew_or_take_up(self) -> None:
        await self._refresh_roots(force=True)
        if not self.begun.is_set() and await self._take_up():
            return
        # A root that has only now been seen is to settle, too.
        if not self._wait():
            await self._renew()

    async def _take_up(self) -> bool:
        """Whether an earlier start's key and certificate are in use again."""
        kept = await self._memory.recall(self.anchors.own, self._clock().wall)
        self.ending.require_active()
        if kept is not None:
            self.keyring.leases.resume(kept.enrolled.key.id, kept.lease)
            self._publish(kept.enrolled, kept.obtained)
        self.begun.set()
        return kept is not None and bool(self._rotation.wait(self._clock()))

    async def _renew_at_once(self) -> int:
        await self._refresh_roots(force=True)
        return await self._renew()

    async def _keep_cleared(self) -> None:
        """Clears away what of ended keys could not go when they ended, here or in an earlier
        start.
        """
        while True:
            try:
                await self._clear()
            except Exception as error:  # not even a bug takes a valid pair away
                log.error("keys not cleared away", identity=self.name, exc_info=error)
            await asyncio.sleep(_AGAIN_S)

    async def _clear(self) -> None:
        if self._revoking.is_owed:
            await self._revoking.bury_owed()
        if self.ending.is_owed:
            async with self.renewing:
                if self.ending.is_owed:
                    await self.ending.bury()

    async def _renew(self) -> int:
        self.begun.set()
        await self._roots_acknowledged()
        enrolled = await self._enrolment.run(
            lambda: self._clock().wall, self.store.generation + 1, lambda: self.anchors.own
        )
        try:
            self._require_usable(enrolled.key.id)
        except MeshkeyError:
            await self._enrolment.discard(enrolled)
            raise
        # From here to its publication nothing is awaited.
        obtained = self._clock().wall
        self.keyring.leases.begin(enrolled.key.id, enrolled.chain)
        generation = self._publish(enrolled, obtained)
        self.renewals.succeeded += 1
        await self._memory.keep(enrolled, obtained)
        return generation

    def _require_usable(self, key_id: KeyId) -> None:
        """Raises where the identity, or the key, was ended while it was certified."""
        self.ending.require_active()
        self.publisher.revocations.require_none(key_id)

    async def _follow_roots(self) -> None:
        try:
            await self._refresh_roots()
        except MeshkeyError:
            pass  # the anchors have it in their errors, and in the log
        except Exception as error:  # not even a bug takes a valid pair away
            log.error("roots not followed", identity=self.name, exc_info=error)

    async def _refresh_roots(self, *, force: bool = False) -> None:
        """Whoever follows us learns of new roots at once: before there is a leaf under them."""
        async with self._looking:
            now = self._clock().wall
            await self.anchors.refresh(now, force=force)
            self.publisher.publish_roots(self.anchors.bundles(now))

    async def _roots_acknowledged(self) -> None:
        generation = self.publisher.roots_generation
        if generation <= self._awaited:
            return
        # Who does not answer has had its time, as with handshakes.
        with suppress(TimeoutError):
            async with asyncio.timeout(HANDSHAKE_TIMEOUT.total_seconds()):
                await self.store.acknowledged(generation)
        self._awaited = generation

    def _publish(self, enrolled: Enrolled, obtained: datetime) -> int:
        previous = self.store.current
        now = self._clock()
        generation = self.publisher.publish(enrolled, self.anchors.bundles(now.wall))
        self.last_error = ""
        self._rotation = self._rotation.succeeded(
            now, obtained, self.keyring.leases.renew_before(enrolled.chain.not_after), _chance()
        )
        if previous:
            self._lost.intersection_update({previous.key_id})
        # It has just signed: a given key that was away is back.
        self._lost.discard(enrolled.key.id)
        self.keyring.trust(enrolled.key.id)
        return generation

    def _remember(self, error: Exception) -> None:
        self.keyring.leases.renewal_failed(error)
        self.last_error = str(error) or type(error).__name__
        self.renewals.failed += 1


def _chance() -> float:
    """Spread, which is no secret."""
    return random.random()  # noqa: S311
