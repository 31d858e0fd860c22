"""The end of an identity on command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, TypeVar

import structlog

from sidecar.core.journal import NOWHERE, Fact, Journal
from sidecar.errors import IdentityDeprovisioned, NotDeprovisioned, StateUnwritable
from sidecar.identity.disk import Disk
from sidecar.identity.ended import (
    Ended,
    certificate_facts,
    certificates_of,
    text_of,
    unexpired,
)
from sidecar.identity.memory import Memory
from sidecar.identity.publisher import Publisher
from sidecar.identity.remains import Remains
from sidecar.identity.tombstones import Tombstone, Tombstones
from sidecar.token.base import KeyId

log = structlog.get_logger(__name__)

_T = TypeVar("_T")


class Ending:
    """Ends one identity, and lets it live again. Use it from the event loop only.

    First, and before anything is waited for, nothing is signed any more and subscribers are told.
    Then the tombstone is made durable, and only then keys are destroyed: whenever the process
    dies, what began to end does not come back.
    """

    def __init__(
        self,
        name: str,
        publisher: Publisher,
        memory: Memory,
        tombstones: Tombstones,
        remains: Remains,
        now: Callable[[], datetime],
        journal: Journal = NOWHERE,
    ) -> None:
        self._name = name
        self._publisher = publisher
        self._memory = memory
        self._tombstones = tombstones
        self._remains = remains
        self._now = now
        self._journal = journal
        self._disk = Disk()
        self._tombstone: Tombstone | None = None
        # Keys that could sign when it ended; those under whose names the token has others.
        self._keys: dict[KeyId, None] = {}
        self._foreign: set[KeyId] = set()
        self._is_owed = False
        # Set while the identity is not to be.
        self._stopped = asyncio.Event()

    @property
    def deprovisioned(self) -> Tombstone | None:
        """`None` while the identity lives."""
        return self._tombstone

    @property
    def is_owed(self) -> bool:
        """Whether something of it may be left."""
        return self._is_owed

    def require_active(self) -> None:
        """Raises `IdentityDeprovisioned`, with the way back."""
        if self._tombstone:
            raise IdentityDeprovisioned(
                f"identity {self._name!r} was deprovisioned; bring it back with: "
                f"meshkey reinstate {self._name}"
            )

    async def while_active(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs `work` to its end, or until the identity ends.

        Raises:
            IdentityDeprovisioned: `work` was cancelled, and has cleaned up.
        """
        working = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        if working.cancelled():
            self.require_active()
        return working.result()

    def resume(self, tombstone: Tombstone) -> None:
        """An earlier start was told to end it: so it is, before anybody is served."""
        self._begin(tombstone)
        log.warning("identity is deprovisioned", identity=self._name)

    def stop(self) -> None:
        """Nothing is signed any more, and subscribers are told. Awaits nothing."""
        if self._tombstone:
            return
        certificates = certificates_of(self._publisher.keyring.grants, self._now())
        self._begin(Tombstone(self._name, self._now(), certificates))
        facts: dict[str, Fact] = {
            "identity": self._name,
            "generation": self._publisher.store.generation,
            "key_ids": [str(key_id) for key_id in self._keys],
        }
        log.warning("identity deprovisioned", **facts)
        self._journal.record(
            "identity deprovisioned", **facts, certificates=certificate_facts(certificates)
        )

    async def bury(self) -> Ended:
        """After `stop`, and while no key is made: tombstone, keys, saved certificate.

        May be repeated. Never raises for a disk or a token that fails: what is left is tried
        again later.
        """
        tombstone = self._tombstone
        assert tombstone
        problems, place = [], ""
        try:
            place = await self._disk.run(
                lambda: self._tombstones.deprovision(self._name, tombstone)
            )
        except OSError as error:
            problems.append(f"its tombstone is not written: {text_of(error)}")
        # Without it, too: keys that are gone are what matters most.
        cleared = await self._remains.clear_all(self._keys, self._foreign)
        try:
            await self._memory.forget()
        except OSError as error:
            problems.append(f"its saved certificate is not removed: {text_of(error)}")
        problems += cleared.problems
        self._is_owed = bool(problems)
        for problem in problems:
            log.error("deprovisioning is not finished", identity=self._name, problem=problem)
        left = unexpired(tombstone.certificates, self._now())
        return Ended(cleared, left, place, tuple(problems))

    async def reinstate(self) -> None:
        """While no key is made: lets the identity live again.

        Raises:
            NotDeprovisioned: it does.
            StateUnwritable: the tombstone cannot be taken away, and stays.
        """
        if self._tombstone is None:
            raise NotDeprovisioned(f"identity {self._name!r} is not deprovisioned")
        try:
            await self._disk.run(lambda: self._tombstones.reinstate(self._name))
        except OSError as error:
            raise StateUnwritable(
                f"identity {self._name!r} stays deprovisioned: its tombstone cannot be removed: "
                f"{text_of(error)}"
            ) from error
        self._tombstone = None
        self._is_owed = False
        self._keys.clear()
        self._stopped.clear()
        log.warning("identity reinstated", identity=self._name)
        self._journal.record("identity reinstated", identity=self._name)

    def _begin(self, tombstone: Tombstone) -> None:
        self._tombstone = tombstone
        self._is_owed = True
        keyring = self._publisher.keyring
        key_ids = [grant.key_id for grant in keyring.grants]
        self._keys = dict.fromkeys(key_ids)
        self._foreign = {key_id for key_id in key_ids if keyring.is_distrusted(key_id)}
        keyring.revoke(*key_ids)
        self._publisher.store.withdraw()
        self._stopped.set()
