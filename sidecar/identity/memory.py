"""What an identity remembers from one start to the next: its certificate, on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from sidecar.core.journal import NOWHERE, Journal
from sidecar.core.lease import Lease
from sidecar.core.spiffe import SpiffeId
from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused
from sidecar.identity.disk import Disk, facts_of
from sidecar.identity.enrolment import Enrolled, Wish
from sidecar.identity.keys import KeySource
from sidecar.identity.lease_memory import LeaseMemory
from sidecar.identity.saved import SavedCertificates, SavedIdentity
from sidecar.identity.take_up import take_up
from sidecar.token.base import Token, TokenKey
from sidecar.token.executor import TokenExecutor

log = structlog.get_logger(__name__)

# Instead of the name of a CA: which one it was is not saved.
TAKEN_UP = "taken-up"


@dataclass(frozen=True)
class Kept:
    """A key and certificate of an earlier start, checked like a CA's answer."""

    enrolled: Enrolled
    obtained: datetime
    # The rest of it.
    lease: Lease


class Memory(Protocol):
    """Keeps the certificate that is in use. Roots are never kept."""

    @property
    def lasts(self) -> bool:
        """Whether a later start finds it."""
        ...

    async def recall(self, bundle: TrustBundle, now: datetime) -> Kept | None:
        """What is still good under the roots of today; nothing otherwise. Never raises."""
        ...

    async def keep(self, enrolled: Enrolled, obtained: datetime) -> None:
        """Replaces what was kept. A failure is logged: it takes nothing away."""
        ...

    async def forget(self) -> None:
        """Nothing is kept any more, durably. Raises `OSError`."""
        ...

    async def follow(self) -> None:
        """Keeps how far the lease has run up to date, while there is anything to keep."""
        ...

    async def note(self) -> None:
        """Keeps that once, at the end. A failure is logged."""
        ...


class NoMemory:
    """For identities without a directory for it: each start begins anew."""

    lasts = False

    async def recall(self, bundle: TrustBundle, now: datetime) -> Kept | None:  # noqa: ARG002
        """Nothing."""
        return None

    async def keep(self, enrolled: Enrolled, obtained: datetime) -> None:
        """Forgets it."""

    async def forget(self) -> None:
        """There is nothing."""

    async def follow(self) -> None:
        """Returns at once."""

    async def note(self) -> None:
        """Nothing."""


class SavedMemory:
    """A file of `SavedCertificates`: what comes from it is checked like a CA's answer.

    Beside it is its lease, without which it is of no use.
    """

    lasts = True

    def __init__(
        self,
        name: str,
        spiffe_id: SpiffeId,
        wish: Wish,
        keys: KeySource,
        saved: SavedCertificates,
        lease: LeaseMemory,
        disk: Disk,
        token: Token,
        executor: TokenExecutor,
        journal: Journal = NOWHERE,
    ) -> None:
        self._name = name
        self._spiffe_id = spiffe_id
        self._wish = wish
        self._keys = keys
        self._saved = saved
        self._token = token
        self._executor = executor
        self._lease = lease
        self._disk = disk
        self._journal = journal

    async def recall(self, bundle: TrustBundle, now: datetime) -> Kept | None:
        """Looks at the file, then for its key on the token."""
        try:
            saved = await self._disk.run(lambda: self._saved.load(self._name))
            return await self._checked(saved, bundle, now) if saved else None
        except Exception as error:  # noqa: BLE001  # a start that finds nothing begins anew
            log.warning("no certificate taken up", identity=self._name, **facts_of(error))
            return None

    async def keep(self, enrolled: Enrolled, obtained: datetime) -> None:
        """Durable when it returns."""
        saved = SavedIdentity(enrolled.key.id, enrolled.chain.certificates, obtained)
        try:
            await self._disk.run(lambda: self._saved.save(self._name, saved))
        except Exception as error:  # noqa: BLE001  # the new pair is in use all the same
            log.error("certificate not saved", identity=self._name, **facts_of(error))
        await self._lease.note()

    async def forget(self) -> None:
        """Removes both files. A lease without its certificate is no use to anybody."""
        await self._disk.run(lambda: self._saved.remove(self._name))
        await self._lease.forget()

    async def follow(self) -> None:
        """Notes how far the lease has run, until cancelled."""
        await self._lease.follow()

    async def note(self) -> None:
        """Durable when it returns."""
        await self._lease.note()

    async def _checked(
        self, saved: SavedIdentity, bundle: TrustBundle, now: datetime
    ) -> Kept | None:
        taken = take_up(
            self._name,
            saved,
            keys=[key for key in await self._held() if self._keys.may_reuse(key)],
            spiffe_id=self._spiffe_id,
            sides=self._wish.sides,
            bundle=bundle,
            longest=self._wish.longest,
            now=now,
        )
        if taken is None:
            return None
        try:
            lease = await self._lease.resume(taken.chain)
        except CertificateRefused as error:
            log.warning(
                "saved certificate not used",
                identity=self._name,
                key_id=str(saved.key_id),
                reason=str(error),
            )
            return None
        # It signs here and now, or it is of no use.
        schemes = await self._executor.run(lambda: tuple(self._token.schemes(taken.key)))
        log.info("certificate taken up", identity=self._name, key_id=str(taken.key.id))
        self._journal.record("key taken up", identity=self._name, key_id=str(taken.key.id))
        return Kept(Enrolled(taken.key, schemes, taken.chain, TAKEN_UP), taken.obtained, lease)

    async def _held(self) -> Sequence[TokenKey]:
        return await self._executor.run(lambda: list(self._token.keys()))
