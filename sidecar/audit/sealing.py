"""The audit key, and the seals that it signs while records come in."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from sidecar.audit.log import AuditLog
from sidecar.audit.record import Link
from sidecar.audit.seal import Seal, key_hash, seal_scheme
from sidecar.core.key_label import AUDIT, KeyLabel
from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import AuditUnavailable, MeshkeyError
from sidecar.token.base import Origin, Token, TokenKey
from sidecar.token.executor import TokenExecutor
from sidecar.token.lanes import Lane, Purpose

log = structlog.get_logger(__name__)

_LANE = Lane(Purpose.AUDIT)
_LIMIT_S = 60.0
# At the end of the process.
_LAST_S = 3.0


def find_audit_key(token: Token, owner: str) -> TokenKey | None:
    """The audit key with that owner's mark; blocks. One that was not born there is none."""
    for key in token.keys():  # noqa: SIM118  # no dictionary
        label = KeyLabel.parse(key.label)
        if label and (label.purpose, label.owner) == (AUDIT, owner) and key.origin is Origin.BORN:
            return key
    return None


def make_audit_key(token: Token, owner: str) -> TokenKey:
    """A new one; blocks. Raises what `Token.generate` raises."""
    return token.generate(KeyAlgorithm.EC_P256, str(KeyLabel(AUDIT, owner, 1, "audit log")))


@dataclass(frozen=True)
class Interval:
    """When a seal is due: after so many records, or so long after the first of them."""

    records: int
    age: timedelta


class Sealer:
    """Seals what was written. Use it from the event loop; signing is the executor's."""

    def __init__(
        self,
        audit_log: AuditLog,
        token: Token,
        executor: TokenExecutor,
        key: TokenKey,
        interval: Interval,
        sealed: int,
        last_seal: str,
    ) -> None:
        self._log = audit_log
        self._token = token
        self._executor = executor
        self._key = key
        self._scheme = seal_scheme(key.public_key)
        self._key_hash = key_hash(key.public_key)
        self._interval = interval
        # The last record that a seal covers; the last seal's record, and its chain value.
        self._sealed = sealed
        self._seal_seq = 0
        self._last_seal = last_seal

    async def run(self) -> None:
        """Seals until cancelled."""
        while True:
            await self._until_due()
            await self._seal_or_wait()

    async def last(self) -> None:
        """At the end: seals the rest, or says that it is not sealed."""
        try:
            async with asyncio.timeout(_LAST_S):
                await self._log.flush()
                if self._unsealed:
                    await self._seal()
        except (MeshkeyError, TimeoutError) as error:
            log.error("stopping with records that are not sealed", error=str(error))

    @property
    def _unsealed(self) -> int:
        """Records that no seal covers; a seal alone needs none."""
        end = self._log.link.seq
        return end - self._sealed - (self._sealed < self._seal_seq <= end)

    async def _until_due(self) -> None:
        deadline = None
        while (unsealed := self._unsealed) < self._interval.records:
            if unsealed and deadline is None:
                deadline = time.monotonic() + self._interval.age.total_seconds()
            if deadline is not None and time.monotonic() >= deadline:
                return
            self._log.wake_at = self._sealed + (self._interval.records if unsealed else 1)
            self._log.news.clear()
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            # Not `wait_for`: before Python 3.12 it loses a cancellation that comes with a record.
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._log.news.wait()

    async def _seal_or_wait(self) -> None:
        try:
            await self._seal()
        except MeshkeyError as error:
            self._log.counts.seals_failed += 1
            log.error("audit log not sealed", error=str(error))
            await asyncio.sleep(self._interval.age.total_seconds())

    async def _seal(self) -> None:
        """Raises what `Token.sign` raises, and `AuditUnavailable`."""
        end = self._log.link
        seal = Seal(
            audit_key=self._key_hash,
            first=self._sealed + 1,
            last=end.seq,
            count=end.seq - self._sealed,
            head=end.chain.hex(),
            previous=self._last_seal,
        )
        message = seal.message()
        signature = await self._executor.run(
            lambda: self._token.sign(self._key.id, self._scheme, message), _LIMIT_S, _LANE
        )
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def done(link: Link | None) -> None:
            # Also when nobody waits any more: the next seal is to follow this one.
            if link:
                self._sealed, self._seal_seq = seal.last, link.seq
                self._last_seal = link.chain.hex()
                self._log.counts.seals += 1
            if not written.done():
                written.set_result(link is not None)

        self._log.seal(seal.facts(signature), done)
        if not await written:
            raise AuditUnavailable("the seal could not be written")
