"""Files of roots that the configuration names: read as they are now, and looked at again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import structlog

from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused, SecretNotReady, TrustUnavailable
from sidecar.trust.root_file import read_root_file

log = structlog.get_logger(__name__)


class RootFiles:
    """Reads the files `paths`, and no others. Use it from the event loop; threads read."""

    def __init__(self, paths: frozenset[Path], interval: timedelta) -> None:
        self.paths = paths
        self._interval_s = interval.total_seconds()
        # One thread at most waits for a file, however many streams come and go.
        self._reading: dict[Path, asyncio.Task[TrustBundle | SecretNotReady]] = {}
        self._errors: dict[Path, str] = {}

    async def load(self, path: Path) -> TrustBundle:
        """The certificates in the file.

        Raises:
            SecretNotReady: it cannot be read, or holds anything but certificates of CAs.
        """
        reading = self._reading.get(path)
        if reading is None or reading.done():
            reading = asyncio.create_task(asyncio.to_thread(_read, path))
            self._reading[path] = reading
        read = await asyncio.shield(reading)
        if isinstance(read, SecretNotReady):
            raise read
        return read

    async def follow(self, path: Path) -> AsyncIterator[tuple[int, TrustBundle]]:
        """Numbered contents of the file, as often as it is looked at; never an unreadable one."""
        generation = 0
        while True:
            try:
                bundle = await self.load(path)
            except SecretNotReady as error:
                self._report(path, str(error))
            else:
                self._errors.pop(path, None)
                generation += 1
                yield generation, bundle
            await asyncio.sleep(self._interval_s)

    def _report(self, path: Path, error: str) -> None:
        """Once, and again when it is another error."""
        if self._errors.get(path) != error:
            self._errors[path] = error
            log.error("root file not usable", error=error)


def _read(path: Path) -> TrustBundle | SecretNotReady:
    """Blocks. Returns what went wrong: there may be nobody left who would catch it."""
    try:
        # Nobody says whose roots these are; the name does not travel.
        return TrustBundle.parse("", read_root_file(path))
    except (TrustUnavailable, CertificateRefused) as error:
        return SecretNotReady(f"file {path}: {error}")
