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
from sidecar.errors import KeyChanged, MeshkeyError, NoSuchKey
from sidecar.identity.enrolment import Enrolled, Enrolment
from sidecar.identity.keyring import HANDSHAKE_TIMEOUT
from sidecar.identity.memory import Memory
from sidecar.identity.publisher import Publisher
from sidecar.telemetry import RenewalCounts
from sidecar.token.base import KeyId
from sidecar.trust.anchors import TrustAnchors

log = structlog.get_logger(__name__)

# Between two looks at the clocks and at the sources of roots.
_TICK_S = 1.0


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
        clock: Callable[[], Moment],
    ) -> None:
        self.name = name
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
        self._clock = clock
        self._rotation = Rotation.start(schedule.policy, clock())
        self._health = Health.WAITING
        self._looking = asyncio.Lock()
        # Keys that the token does not have any more.
        self._lost: set[KeyId] = set()
        self._wake = asyncio.Event()
        # The newest roots that were waited for.
        self._awaited = 0

    @property
    def next_renewal(self) -> datetime | None:
        """When the current certificate will be replaced; `None` before the first."""
        return self._rotation.next_attempt(self._clock()) if self.store.current else None

    @property
    def health(self) -> Health:
        """How its certificate, and the lease of its key, are doing now."""
        now = self._clock().wall
        health = self._rotation.health(now)
        if current := self.store.current:
            return self.keyring.leases.health(health, now, current.chain.not_after)
        return health

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

    async def renew(self) -> int:
        """Gets a new certificate now, for a new key unless one is given; returns its generation.

        Raises:
            MeshkeyError: what went wrong; the identity in use stays.
        """
        async with self.renewing:
            try:
                await self._refresh_roots(force=True)
                return await self._renew()
            except Exception as error:
                self._remember(error)
                raise

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
            self._alarm()

    async def _keep_valid(self) -> None:
        while True:
            await self._until_due()
            try:
                async with self.renewing:
                    # Not if a rotation on command was faster.
                    if not self._rotation.wait(self._clock()):
                        await self._renew_or_take_up()
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
                await asyncio.wait_for(self._wake.wait(), min(wait.total_seconds(), _TICK_S))

    def _wait(self) -> timedelta:
        """How long it is until the next attempt, which waits for roots to settle."""
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
        if kept is not None:
            self.keyring.leases.resume(kept.enrolled.key.id, kept.lease)
            self._publish(kept.enrolled, kept.obtained)
        self.begun.set()
        return kept is not None and bool(self._rotation.wait(self._clock()))

    async def _renew(self) -> int:
        self.begun.set()
        await self._roots_acknowledged()
        enrolled = await self._enrolment.run(
            lambda: self._clock().wall, self.store.generation + 1, lambda: self.anchors.own
        )
        obtained = self._clock().wall
        self.keyring.leases.begin(enrolled.key.id, enrolled.chain)
        generation = self._publish(enrolled, obtained)
        self.renewals.succeeded += 1
        await self._memory.keep(enrolled, obtained)
        return generation

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

    def _alarm(self) -> None:
        health, before = self.health, self._health
        if health is before:
            return
        self._health = health
        facts = {"identity": self.name, "last_error": self.last_error}
        if health is Health.LATE:
            log.warning("certificate not renewed in time", **facts)
        elif health is Health.CRITICAL:
            log.error("certificate about to expire", **facts)
        elif health is Health.LAPSED:
            log.critical("lease over, nothing is signed", **facts)
        elif health is Health.EXPIRED:
            log.critical("certificate expired, nothing is signed", **facts)
        elif before is not Health.WAITING:
            log.info("certificate valid again", identity=self.name)


def _chance() -> float:
    """Spread, which is no secret."""
    return random.random()  # noqa: S311
