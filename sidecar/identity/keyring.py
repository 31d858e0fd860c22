"""The keys an identity may sign with now, and the end of those it replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

import structlog

from sidecar.identity.keys import Destroys
from sidecar.identity.leases import Leases
from sidecar.identity.snapshot import KeyGrant
from sidecar.identity.store import SnapshotStore
from sidecar.token.base import KeyId

log = structlog.get_logger(__name__)

# A handshake that began with the old chain may ask for its signature this much later.
HANDSHAKE_TIMEOUT = timedelta(seconds=10)
# Between two looks at the clock: timers stand still while the machine is suspended.
_LOOK = timedelta(seconds=1)


class Keyring:
    """Grants keys and retires them: make before break.

    A retired key lives until every live subscriber has acknowledged the generation that
    replaced it and handshakes in flight have had their time, or until its certificate
    has expired, whichever comes first. Use it from the event loop only.
    """

    def __init__(
        self,
        destruction: Destroys,
        store: SnapshotStore,
        now: Callable[[], datetime],
        leases: Leases,
        handshake_timeout: timedelta = HANDSHAKE_TIMEOUT,
    ) -> None:
        self.leases = leases
        self._destruction = destruction
        self._store = store
        self._now = now
        self._handshake_timeout = handshake_timeout
        self._grants: dict[KeyId, KeyGrant] = {}
        self._distrusted: set[KeyId] = set()
        self._retirements: dict[KeyId, asyncio.Task[None]] = {}

    def grant(self, key_id: KeyId) -> KeyGrant | None:
        """What may be signed with `key_id` now; nothing for unknown and expired keys.

        Raises:
            SigningRefused: the certificate is valid, and the key's lease is over.
        """
        if grant := self.unexpired(key_id):
            self.leases.require(key_id)
        return grant

    def unexpired(self, key_id: KeyId) -> KeyGrant | None:
        """The key's grant, whatever its lease: for whoever does not sign with it."""
        grant = self._grants.get(key_id)
        return grant if grant and self._now() < grant.not_after else None

    def distrust(self, key_id: KeyId) -> None:
        """What the token has under this name is not our key: never used, nor destroyed."""
        self._distrusted.add(key_id)

    def trust(self, key_id: KeyId) -> None:
        """It was seen to be our key."""
        self._distrusted.discard(key_id)

    def is_distrusted(self, key_id: KeyId) -> bool:
        return key_id in self._distrusted

    def holds(self, key_id: KeyId) -> bool:
        """Whether the key is one of these, also while it is being retired."""
        return key_id in self._grants

    @property
    def grants(self) -> Sequence[KeyGrant]:
        """Every key that may sign, or might if it had not expired."""
        return tuple(self._grants.values())

    def admit(self, grant: KeyGrant) -> None:
        """Lets the signer use a key from now on."""
        self._grants[grant.key_id] = grant

    def retire(self, key_id: KeyId, replaced_by: int) -> None:
        """Destroys a key as soon as generation `replaced_by` is in use everywhere."""
        task = asyncio.create_task(self._retire(self._grants[key_id], replaced_by))
        self._retirements[key_id] = task
        task.add_done_callback(lambda _: self._retirements.pop(key_id, None))

    def revoke(self, *key_ids: KeyId) -> None:
        """From here on nothing is signed with them. Whoever revokes them destroys them."""
        for key_id in key_ids:
            self._grants.pop(key_id, None)
            self.leases.drop(key_id)
            if retirement := self._retirements.get(key_id):
                retirement.cancel()

    async def close(self, kept: Collection[KeyId] = ()) -> None:
        """Destroys every key but those `kept`: nobody can ask for a signature any more."""
        retirements = list(self._retirements.values())
        for task in retirements:
            task.cancel()
        await asyncio.gather(*retirements, return_exceptions=True)
        await self._destroy(*(key_id for key_id in self._grants if key_id not in kept))

    async def _retire(self, grant: KeyGrant, replaced_by: int) -> None:
        waiting = asyncio.ensure_future(self._in_use_everywhere(replaced_by))
        try:
            while not waiting.done() and (left := grant.not_after - self._now()) > timedelta(0):
                await asyncio.wait([waiting], timeout=min(left, _LOOK).total_seconds())
            if not waiting.done():
                log.warning(
                    "key expired before its successor was acknowledged", key_id=str(grant.key_id)
                )
        finally:
            waiting.cancel()
        await self._destroy(grant.key_id)

    async def _in_use_everywhere(self, generation: int) -> None:
        while True:
            await self._store.acknowledged(generation)
            await asyncio.sleep(self._handshake_timeout.total_seconds())
            # A subscriber whose stream was down a moment ago may be back with the old key.
            if self._store.is_acknowledged(generation):
                return

    async def _destroy(self, *key_ids: KeyId) -> None:
        for key_id in key_ids:
            self._grants.pop(key_id, None)
            self.leases.drop(key_id)
        ours = [key_id for key_id in key_ids if key_id not in self._distrusted]
        self._distrusted.difference_update(key_ids)
        await self._destruction.destroy(*ours)
