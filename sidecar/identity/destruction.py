"""The end of keys: destroyed, verified and recorded, however often it has to be tried."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import structlog

from sidecar.core.journal import NOWHERE, Journal
from sidecar.errors import MeshkeyError
from sidecar.token.base import KeyId, Token
from sidecar.token.executor import TokenExecutor

log = structlog.get_logger(__name__)


class Destruction:
    """Destroys keys and remembers those that the token would not let go of yet."""

    def __init__(self, token: Token, executor: TokenExecutor, journal: Journal = NOWHERE) -> None:
        self._token = token
        self._executor = executor
        self._journal = journal
        self._owed: set[KeyId] = set()

    async def destroy(self, *key_ids: KeyId, gone: Collection[KeyId] = ()) -> None:
        """Destroys `key_ids`, and with them what could not be destroyed before.

        Those of them that a search did not find, which are `gone`, are destroyed all the same,
        and their death is not recorded once more.

        Never raises for a token that fails: the key is logged, and tried again with the next.
        """
        # Half of an owed one may have been left.
        recorded = set(gone) - self._owed
        self._owed.update(key_ids)
        for key_id in list(self._owed):
            try:
                await self._executor.run(partial(self._token.destroy, key_id))
            except MeshkeyError as error:
                log.error("key not destroyed", key_id=str(key_id), error=str(error))
                self._journal.record("key not destroyed", key_id=str(key_id), error=str(error))
            else:
                if key_id not in self._owed:
                    continue  # somebody else was faster, and has recorded it
                self._owed.discard(key_id)
                if key_id not in recorded:
                    log.info("key destroyed", key_id=str(key_id))
                    self._journal.record("key destroyed", key_id=str(key_id))
