"""The end of one key on command."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from sidecar.core.journal import NOWHERE, Fact, Journal
from sidecar.errors import MeshkeyError
from sidecar.identity.disk import Disk
from sidecar.identity.ended import (
    Ended,
    certificate_facts,
    certificates_of,
    text_of,
    unexpired,
)
from sidecar.identity.publisher import Publisher
from sidecar.identity.remains import Remains
from sidecar.identity.tombstones import Tombstone, Tombstones
from sidecar.token.base import KeyId

log = structlog.get_logger(__name__)


class Revoking:
    """Revokes keys of one identity. Use it from the event loop only.

    First, and before anything is waited for, the key signs no more and subscribers are told.
    Then its tombstone is made durable, and only then it is destroyed.
    """

    def __init__(
        self,
        name: str,
        publisher: Publisher,
        tombstones: Tombstones,
        remains: Remains,
        now: Callable[[], datetime],
        journal: Journal = NOWHERE,
    ) -> None:
        self._name = name
        self._publisher = publisher
        self._tombstones = tombstones
        self._remains = remains
        self._now = now
        self._journal = journal
        self._disk = Disk()
        # What the token has under these names is no key of ours.
        self._foreign: set[KeyId] = set()
        # Of an earlier start, which may have ended between their tombstone and their destruction.
        self._unsure = set(publisher.revocations.own())
        # Whose end is not finished.
        self._owed: set[KeyId] = set()

    @property
    def is_owed(self) -> bool:
        """Whether a key that was revoked may still be on the token."""
        return bool(self._owed or self._unsure)

    def revoke(self, key_id: KeyId) -> None:
        """Nothing is signed with the key any more, and subscribers are told. Awaits nothing."""
        publisher = self._publisher
        if publisher.revocations.named(key_id):
            return
        keyring = publisher.keyring
        certificates = certificates_of(
            [grant for grant in keyring.grants if grant.key_id == key_id], self._now()
        )
        publisher.revocations.add(key_id, Tombstone(self._name, self._now(), certificates))
        if keyring.is_distrusted(key_id):
            self._foreign.add(key_id)
        keyring.revoke(key_id)
        publisher.publish_revocations()
        facts: dict[str, Fact] = {"identity": self._name, "key_id": str(key_id)}
        log.warning("key revoked", **facts)
        self._journal.record("key revoked", **facts, certificates=certificate_facts(certificates))

    async def bury(self, key_id: KeyId) -> Ended:
        """After `revoke`: tombstone and key. May be repeated.

        Never raises for a disk or a token that fails: what is left is tried again later.
        """
        tombstone = self._publisher.revocations.named(key_id)
        assert tombstone
        problems, place = [], ""
        try:
            place = await self._disk.run(lambda: self._tombstones.revoke(key_id, tombstone))
        except OSError as error:
            problems.append(f"its tombstone is not written: {text_of(error)}")
        # Without it, too: a key that is gone is what matters most.
        cleared = await self._remains.clear([key_id], self._foreign)
        problems += cleared.problems
        self._settle(key_id, problems)
        left = unexpired(tombstone.certificates, self._now())
        return Ended(cleared, left, place, tuple(problems))

    async def bury_owed(self) -> None:
        """Tries again what could not be done, here or in an earlier start."""
        if self._unsure:
            try:
                marked = await self._remains.marked()
            except MeshkeyError as error:
                log.warning("no look for revoked keys yet", error=str(error))
                return
            self._owed.update(self._unsure.intersection(marked))
            self._unsure.clear()
        for key_id in list(self._owed):
            await self.bury(key_id)

    def _settle(self, key_id: KeyId, problems: list[str]) -> None:
        if problems:
            self._owed.add(key_id)
        else:
            self._owed.discard(key_id)
        for problem in problems:
            log.error(
                "revocation is not finished",
                identity=self._name,
                key_id=str(key_id),
                problem=problem,
            )
