"""One workload identity, kept valid for as long as the process lives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import structlog

from sidecar.core.certificate_verify import Side
from sidecar.core.renewal import renewal_due, retry_delay
from sidecar.core.spiffe import SpiffeId
from sidecar.core.trust import TrustBundle
from sidecar.errors import KeyChanged, MeshkeyError, NoSuchKey
from sidecar.identity.enrolment import Enrolled, Enrolment
from sidecar.identity.keyring import HANDSHAKE_TIMEOUT, Keyring
from sidecar.identity.snapshot import KeyGrant, Snapshot
from sidecar.identity.store import SnapshotStore
from sidecar.token.base import KeyId

log = structlog.get_logger(__name__)

# The longest sleep between two looks at the clock, so that a suspended machine or a clock
# that jumps forward does not make a renewal late.
_TICK = 5.0


class Identity:
    """Renews its certificate at half its lifetime and publishes each new pair.

    Each has a new key, unless one is given.

    A failed renewal is retried with back-off and never takes the valid pair away. A key that
    the token has lost is replaced at once, and with the same back-off if that goes on.
    """

    def __init__(
        self,
        name: str,
        spiffe_id: SpiffeId,
        sides: frozenset[Side],
        enrolment: Enrolment,
        store: SnapshotStore,
        keyring: Keyring,
        now: Callable[[], datetime],
    ) -> None:
        self.name = name
        self.spiffe_id = spiffe_id
        self.store = store
        self.keyring = keyring
        self.last_error = ""
        self._sides = sides
        self._enrolment = enrolment
        self._now = now
        self._renewing = asyncio.Lock()
        # As they were in the file when the current certificate was obtained.
        self._roots: TrustBundle | None = None
        # Keys that the token does not have any more.
        self._lost: set[KeyId] = set()
        self._loss = asyncio.Event()

    @property
    def next_renewal(self) -> datetime | None:
        """When the current certificate will be replaced; `None` before the first."""
        current = self.store.current
        return renewal_due(current.obtained, current.chain.not_after) if current else None

    async def run(self) -> None:
        """Keeps the identity valid until cancelled."""
        failures = losses = 0
        while True:
            await self._until_due()
            if not failures:
                losses = losses + 1 if self._current_is_lost() else 0
                if losses > 1:
                    await asyncio.sleep(_back_off(losses - 1))
            try:
                async with self._renewing:
                    # Not if a rotation on command was faster.
                    if self._until_renewal() <= 0:
                        await self._renew()
                failures = 0
            except Exception as error:  # not even a bug takes a valid pair away
                failures += 1
                delay = _back_off(failures)
                log.error(
                    "renewal failed",
                    identity=self.name,
                    error=str(error),
                    retry_in_s=round(delay, 1),
                    exc_info=None if isinstance(error, MeshkeyError) else error,
                )
                await asyncio.sleep(delay)

    async def renew(self) -> int:
        """Gets a new certificate, for a new key unless one is given; returns its generation.

        Raises:
            MeshkeyError: what went wrong; the identity in use stays.
        """
        async with self._renewing:
            return await self._renew()

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
        self._loss.set()

    async def close(self) -> None:
        """Destroys every key, after a renewal that is under way has cleaned up."""
        async with self._renewing:
            await self.keyring.close()

    async def _renew(self) -> int:
        try:
            await self._announce_roots()
            enrolled = await self._enrolment.run(self._now, self.store.generation + 1)
        except Exception as error:
            self.last_error = str(error) or type(error).__name__
            raise
        self.last_error = ""
        return self._publish(enrolled)

    async def _announce_roots(self) -> None:
        """Before there is a leaf under a new root, whoever follows us trusts that root."""
        if (current := self.store.current) is None:
            return
        (trusted,) = current.bundles
        both = trusted.union(self._enrolment.bundle())
        if both == trusted:
            return
        generation = self.store.generation + 1
        self.store.publish(replace(current, generation=generation, bundles=(both,)))
        log.info("new roots published", identity=self.name, generation=generation)
        # Who does not answer has had its time, as with handshakes.
        with suppress(TimeoutError):
            async with asyncio.timeout(HANDSHAKE_TIMEOUT.total_seconds()):
                await self.store.acknowledged(generation)

    async def _until_due(self) -> None:
        while (wait := self._until_renewal()) > 0:
            self._loss.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._loss.wait(), min(wait, _TICK))

    def _until_renewal(self) -> float:
        due = self.next_renewal
        if self._current_is_lost():
            return 0.0
        return (due - self._now()).total_seconds() if due else 0.0

    def _current_is_lost(self) -> bool:
        return self.store.current is not None and self.store.current.key_id in self._lost

    def _publish(self, enrolled: Enrolled) -> int:
        previous = self.store.current
        # Peers may have a leaf under a root that is on its way out: it stays one generation more.
        bundle = enrolled.bundle.union(self._roots) if self._roots else enrolled.bundle
        self._roots = enrolled.bundle
        snapshot = Snapshot(
            generation=self.store.generation + 1,
            spiffe_id=self.spiffe_id,
            key_id=enrolled.key.id,
            key_origin=enrolled.key.origin,
            schemes=enrolled.schemes,
            chain=enrolled.chain,
            bundles=(bundle,),
            obtained=self._now(),
        )
        self.keyring.admit(
            KeyGrant(
                key_id=snapshot.key_id,
                sides=self._sides,
                schemes=frozenset(snapshot.schemes),
                not_after=snapshot.chain.not_after,
            )
        )
        self.store.publish(snapshot)
        log.info(
            "certificate published",
            identity=self.name,
            spiffe_id=str(self.spiffe_id),
            generation=snapshot.generation,
            key_id=str(snapshot.key_id),
            key_origin=snapshot.key_origin.value,
            serial=snapshot.chain.serial,
            not_after=snapshot.chain.not_after.isoformat(),
        )
        if previous:
            self._lost.intersection_update({previous.key_id})
        # It has just signed: a given key that was away is back.
        self._lost.discard(snapshot.key_id)
        self.keyring.trust(snapshot.key_id)
        if previous and previous.key_id != snapshot.key_id:
            self.keyring.retire(previous.key_id, replaced_by=snapshot.generation)
        return snapshot.generation


def _back_off(failures: int) -> float:
    """In seconds; spread, which is no secret."""
    return retry_delay(failures, random.random()).total_seconds()  # noqa: S311
