"""Keys that an earlier life of this sidecar left on the token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import structlog

from sidecar.core.key_label import TLS, KeyLabel
from sidecar.errors import MeshkeyError
from sidecar.identity.destruction import Destruction
from sidecar.token.base import KeyId, Token
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
        at_rest: AbstractAsyncContextManager[object],
    ) -> None:
        """`at_rest` holds while no key is being certified: such a key is not `in_use` yet."""
        self._owner = owner
        self._grace = grace
        self._token = token
        self._executor = executor
        self._destruction = destruction
        self._in_use = in_use
        self._at_rest = at_rest

    async def sweep(self) -> None:
        """Once, at the start. Waits for a token that is not there yet."""
        found = await self._found()
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
                async with self._at_rest:
                    return await self._look()
            except MeshkeyError as error:
                log.warning("no look for orphaned keys yet", error=str(error))
            await asyncio.sleep(_AGAIN_S)

    async def _look(self) -> list[KeyId]:
        # Half a key that a crash left is an orphan too.
        found = await self._executor.run(self._token.labels)
        labels = {key_id: KeyLabel.parse(text) for key_id, text in found.items()}
        return [
            key_id
            for key_id, label in labels.items()
            # An identity's keys only: one that seals an audit log lives on.
            if label
            and (label.purpose, label.owner) == (TLS, self._owner)
            and not self._in_use(key_id)
        ]
