"""What an identity remembers of its lease from one start to the next."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from sidecar.core.chain import CertificateChain
from sidecar.core.lease import NOTED_EVERY, Lease, LeaseNote
from sidecar.errors import CertificateRefused
from sidecar.identity.disk import Disk, facts_of
from sidecar.identity.leases import Leases
from sidecar.identity.saved_leases import SavedLeases

log = structlog.get_logger(__name__)

# With time for a disk that is slow, so that a note is never older than it may be.
_BETWEEN_S = NOTED_EVERY.total_seconds() / 2


class LeaseMemory:
    """Notes how far the newest of `leases` has run, and how high the wall clock has stood."""

    def __init__(
        self, name: str, leases: Leases, saved: SavedLeases, boot_id: str, disk: Disk
    ) -> None:
        """`boot_id` is empty where it cannot be known: then every start counts as a boot."""
        self._name = name
        self._leases = leases
        self._saved = saved
        self._boot_id = boot_id
        self._disk = disk
        self._noted: LeaseNote | None = None
        # Notes are written in the order in which they are taken.
        self._writing = asyncio.Lock()

    async def resume(self, chain: CertificateChain) -> Lease:
        """What an earlier start has left of the lease on `chain`.

        It is noted anew before it is returned, or starts that end before their first note could
        use the same rest again and again.

        Raises:
            CertificateRefused: nothing is left, or it cannot be told.
            OSError: the disk.
        """
        note = await self._disk.run(lambda: self._saved.load(self._name))
        if note is None:
            raise CertificateRefused("how much of its lease is left is not on the disk")
        now = self._leases.clock()
        lease = note.resume(self._leases.terms, self._boot_id, now, chain)
        self._noted = note
        await self._write(lease)
        return lease

    async def note(self) -> None:
        """Durable when it returns. A failure is logged: it takes nothing away."""
        try:
            if lease := self._leases.newest:
                await self._write(lease)
        except Exception as error:  # noqa: BLE001  # the key in use is leased all the same
            log.error("lease not noted", identity=self._name, **facts_of(error))

    async def forget(self) -> None:
        """Removes the note. Raises `OSError`."""
        async with self._writing:
            self._noted = None
            await self._disk.run(lambda: self._saved.remove(self._name))

    async def follow(self) -> None:
        """Notes it at every change and twice in `NOTED_EVERY`, until cancelled."""
        while True:
            self._leases.changed.clear()
            await self.note()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leases.changed.wait(), _BETWEEN_S)

    async def _write(self, lease: Lease) -> None:
        async with self._writing:
            now = self._leases.clock()
            note = self._noted = LeaseNote.take(lease, self._boot_id, now, self._noted)
            await self._disk.run(lambda: self._saved.save(self._name, note))
