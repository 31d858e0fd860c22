"""Roots from a PEM file or a mounted ConfigMap."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused
from sidecar.trust.root_file import read_root_file


class PemFile:
    """`TrustSource`: every CERTIFICATE of the file is a root of `trust_domain`.

    Write it anew and rename it into place. Half a certificate of a file that is written in
    place is noticed; an end exactly between two certificates cannot be.
    """

    interval = timedelta(seconds=1)

    def __init__(self, trust_domain: str, path: Path) -> None:
        self._trust_domain = trust_domain
        self._path = path

    async def load(self) -> TrustBundle:
        """Reads the file anew, on a thread.

        Raises:
            TrustUnavailable: it cannot be read.
            CertificateRefused: it is too large, or holds anything but CA certificates.
        """
        return await asyncio.to_thread(self._read)

    def _read(self) -> TrustBundle:
        content = read_root_file(self._path)
        try:
            return TrustBundle.parse(self._trust_domain, content)
        except CertificateRefused as error:
            raise CertificateRefused(f"trust bundle {self._path}: {error}") from error
