"""Roots from a file with a SPIFFE bundle document."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import structlog

from sidecar.core.spiffe_bundle import SpiffeBundle
from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused
from sidecar.trust.root_file import read_root_file

log = structlog.get_logger(__name__)

_SHORTEST = timedelta(seconds=1)
_LONGEST = timedelta(minutes=1)


class SpiffeBundleFile:
    """`TrustSource`: the document's X.509 roots are those of `trust_domain`."""

    def __init__(self, trust_domain: str, path: Path) -> None:
        self._trust_domain = trust_domain
        self._path = path
        self._last: SpiffeBundle | None = None

    @property
    def interval(self) -> timedelta:
        """What the document suggests, between a second and a minute.

        Publishers think of their endpoint when they suggest days. A file costs little to
        look at, and a root that was taken out is not to live on for as long.
        """
        hint = self._last.refresh_hint if self._last else None
        return _SHORTEST if hint is None else min(max(hint, _SHORTEST), _LONGEST)

    async def load(self) -> TrustBundle:
        """Reads the file anew, on a thread.

        Raises:
            TrustUnavailable: it cannot be read.
            CertificateRefused: it is too large, or no bundle document with a root.
        """
        read = await asyncio.to_thread(self._read)
        self._note_sequence(read)
        self._last = read
        return read.bundle

    def _read(self) -> SpiffeBundle:
        content = read_root_file(self._path)
        try:
            return SpiffeBundle.parse(self._trust_domain, content)
        except CertificateRefused as error:
            raise CertificateRefused(f"trust bundle {self._path}: {error}") from error

    def _note_sequence(self, read: SpiffeBundle) -> None:
        before = self._last.sequence if self._last else None
        if before is not None and read.sequence is not None and read.sequence < before:
            # Used all the same: whoever may write the file may also take back a mistake.
            log.warning(
                "trust bundle went back to an older sequence",
                trust_domain=self._trust_domain,
                before=before,
                now=read.sequence,
            )
