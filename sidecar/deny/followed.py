"""The deny list that counts: the newest one that was ever taken, wherever it comes from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from sidecar.core.deny_list import DenyList, WhenStale
from sidecar.core.journal import NOWHERE, Fact, Journal
from sidecar.core.spiffe import SpiffeId
from sidecar.deny.base import DenyListSource, Signed
from sidecar.deny.kept import Kept, KeptFile
from sidecar.errors import (
    DenyListRefused,
    DenyListUnavailable,
    MeshkeyError,
    RefusalReason,
    SigningRefused,
)
from sidecar.one_thread import OneThread

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
_LOOK_S = 1.0
# A disk that hangs must not keep the clock from being looked at.
_PATIENCE = timedelta(seconds=10)


@dataclass(frozen=True)
class _Settled:
    """What was decided about files that have not changed since."""

    signed: Signed
    complaint: str


class FollowedDenyList:
    """`Denials`. Use it from the event loop only, with one `look` at a time.

    A list is taken if it is signed, not from the future, and of a higher sequence than any that
    was taken before, in this life or an earlier one. It is kept on disk before it counts.
    """

    def __init__(
        self,
        source: DenyListSource,
        kept: KeptFile,
        when_stale: WhenStale,
        now: Callable[[], datetime],
        journal: Journal = NOWHERE,
    ) -> None:
        # Lists that were there and could not be taken, each once.
        self.refused = 0
        # What is wrong with the files now; empty: the list in them counts.
        self.complaint = ""
        self.when_stale = when_stale
        self._source = source
        self._kept_file = kept
        self._now = now
        self._journal = journal
        self._disk = OneThread(_PATIENCE)
        self._current: DenyList | None = None
        self._highest: Kept | None = None
        self._settled: _Settled | None = None
        self._overdue = ""

    @property
    def current(self) -> DenyList | None:
        return self._current

    @property
    def overdue(self) -> str:
        """Why there should be another list by now; empty if there need not be one."""
        if self._current is None:
            return "there is no deny list yet"
        if self._current.is_stale(self._now()):
            return f"the deny list is stale since {self._current.next_update:%Y-%m-%dT%H:%M:%SZ}"
        return ""

    def denies(self, spiffe_id: SpiffeId) -> bool:
        return self._current is not None and spiffe_id in self._current.denied

    def require_signing(self, spiffe_id: SpiffeId) -> None:
        if self._current is not None and self.denies(spiffe_id):
            raise SigningRefused(
                RefusalReason.LEASE,
                f"{spiffe_id} is on the deny list of sequence {self._current.sequence}: "
                "nothing is signed for it until a later list leaves it out",
            )
        if self.when_stale is WhenStale.REFUSE and (overdue := self.overdue):
            raise DenyListUnavailable(f"{overdue}, and nothing is signed without a newer one")

    async def restore(self) -> None:
        """Goes on where an earlier life was, before the first `look`.

        Raises:
            StartFailed: what it kept is damaged.
        """
        kept = await asyncio.to_thread(self._kept_file.load)
        if kept is None:
            log.warning("no deny list was kept: any that is signed is taken as the first")
            return
        self._highest = kept
        try:
            self._current = await self._run(lambda: self._verified_again(kept))
        except MeshkeyError as error:
            # Its sequence counts all the same.
            log.error("kept deny list not used", error=str(error))

    async def run(self, tell: Callable[[], None]) -> None:
        """Looks until cancelled; calls `tell` whenever another list counts."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if await self.look():
                tell()

    async def look(self) -> bool:
        """Looks at the files and at the clock; says whether another list counts now."""
        before = self._current
        try:
            await self._follow()
        except DenyListUnavailable as error:
            self._complain(str(error))
        except Exception as error:  # not even a bug takes the list away
            self._complain(f"the deny list could not be followed: {error!r}")
            log.error("deny list not followed", exc_info=error)
        self._alarm()
        return self._current is not before

    async def _follow(self) -> None:
        signed = await self._run(self._source.read)
        if self._settled and self._settled.signed == signed:
            self._complain(self._settled.complaint)
            return
        try:
            deny_list = await self._run(lambda: self._source.verified(signed))
            self._require_newer(deny_list)
        except DenyListRefused as error:
            self._refuse(str(error))
            self._settled = _Settled(signed, str(error))
            return
        try:
            deny_list.require_issued(self._now())
        except DenyListRefused as error:
            # Not for ever: the time may come.
            if str(error) != self.complaint:
                self._refuse(str(error))
            return
        await self._take(deny_list, signed)
        self._settled = _Settled(signed, "")
        self._complain("")

    def _require_newer(self, deny_list: DenyList) -> None:
        highest = self._highest
        if highest is None or deny_list.sequence > highest.sequence:
            return
        if deny_list.sequence < highest.sequence:
            raise DenyListRefused(
                f"the deny list has sequence {deny_list.sequence}, and one of sequence "
                f"{highest.sequence} was taken already; sign it anew with a higher one"
            )
        if deny_list.digest != highest.digest:
            raise DenyListRefused(
                f"another deny list of sequence {deny_list.sequence} was taken already; "
                "sign this one anew with a higher sequence"
            )

    async def _take(self, deny_list: DenyList, signed: Signed) -> None:
        kept = Kept.of(deny_list, signed.deny_list)
        if kept != self._highest:
            await self._run(lambda: self._kept_file.save(kept))
            self._highest = kept
        if deny_list == self._current:
            return
        self._current = deny_list
        facts: dict[str, Fact] = {
            "sequence": deny_list.sequence,
            "entries": len(deny_list.spiffe_ids),
            "sha256": deny_list.digest,
        }
        log.warning("deny list taken", **facts, next_update=deny_list.next_update.isoformat())
        self._journal.record("deny list taken", **facts)

    def _refuse(self, reason: str) -> None:
        self.refused += 1
        log.error("deny list refused", reason=reason)
        self._journal.record("deny list refused", reason=reason)
        self.complaint = reason

    def _complain(self, complaint: str) -> None:
        if complaint and complaint != self.complaint:
            log.error("deny list not there", error=complaint)
        self.complaint = complaint

    def _alarm(self) -> None:
        overdue, before = self.overdue, self._overdue
        self._overdue = overdue
        if overdue == before:
            return
        if overdue:
            log.error("deny list overdue", reason=overdue, when_stale=self.when_stale.value)
        else:
            log.info("deny list up to date")

    def _verified_again(self, kept: Kept) -> DenyList:
        signed = Signed(kept.signed, self._source.read_keys())
        deny_list = self._source.verified(signed)
        if Kept.of(deny_list, kept.signed) != kept:
            raise DenyListRefused("its sequence is not the one that was kept beside it")
        return deny_list

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await self._disk.run(work)
        except TimeoutError as error:
            raise DenyListUnavailable("the deny list's disk does not answer") from error
