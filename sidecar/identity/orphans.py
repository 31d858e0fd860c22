"""Keys that an earlier life of this sidecar left on the token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog

from sidecar.core.key_label import KeyLabel
from sidecar.errors import MeshkeyError
from sidecar.identity.destruction import Destruction
from sidecar.identity.keys import KeySource
from sidecar.token.base import KeyId, Token, TokenKey
from sidecar.token.executor import TokenExecutor

log = structlog.get_logger(__name__)

_AGAIN_S = 30.0


class Orphans:
    """Finds keys with our mark that are not in use, and destroys them after a grace period.

    The grace is for a predecessor that is still ending its last handshakes. Other
    sidecars' keys, and all that no sidecar made, are left alone.
    """

    def __init__(
        self,
        owner: str,
        grace: timedelta,
        token: Token,
        executor: TokenExecutor,
        destruction: Destruction,
        in_use: Callable[[KeyId], bool],
    ) -> None:
        self._owner = owner
        self._grace = grace
        self._token = token
        self._executor = executor
        self._destruction = destruction
        self._in_use = in_use
        self._looking = asyncio.Lock()
        self._left: list[KeyId] | None = None

    async def look(self) -> None:
        """Notes what is there before this start makes a key, and does nothing the next time.

        A key that is made and waits for its certificate is on the token too, for as long as
        the CA takes: it must not be taken for an earlier start's.

        Raises what `Token.labels` raises.
        """
        async with self._looking:
            if self._left is None:
                # Half a key that a crash left is an orphan too.
                found = await self._executor.run(self._token.labels)
                labels = {key_id: KeyLabel.parse(text) for key_id, text in found.items()}
                self._left = [
                    k for k, label in labels.items() if label and label.owner == self._owner
                ]

    async def sweep(self) -> None:
        """Once, when it is decided which are taken up. Waits for a token that is not there yet."""
        found = [key_id for key_id in await self._found() if not self._in_use(key_id)]
        if not found:
            return
        log.warning(
            "keys of an earlier start found, destroying them",
            key_ids=[str(key_id) for key_id in found],
            in_s=self._grace.total_seconds(),
        )
        await asyncio.sleep(self._grace.total_seconds())
        await self._destruction.destroy(*(key for key in found if not self._in_use(key)))

    async def _found(self) -> list[KeyId]:
        while True:
            try:
                await self.look()
            except MeshkeyError as error:
                log.warning("no look for orphaned keys yet", error=str(error))
                await asyncio.sleep(_AGAIN_S)
            else:
                return self._left or []


class AfterLook:
    """A `KeySource` that makes no key before `orphans` has looked."""

    def __init__(self, keys: KeySource, orphans: Orphans) -> None:
        self._keys = keys
        self._orphans = orphans

    async def obtain(self, generation: int) -> TokenKey:
        """Raises what `Orphans.look` raises, too."""
        await self._orphans.look()
        return await self._keys.obtain(generation)

    async def discard(self, key: TokenKey) -> None:
        await self._keys.discard(key)

    def may_reuse(self, key: TokenKey) -> bool:
        return self._keys.may_reuse(key)
