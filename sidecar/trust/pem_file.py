"""stub"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused


class PemFile:
    interval = timedelta(seconds=1)

    def __init__(self, trust_domain: str, path: Path) -> None:
        self._trust_domain = trust_domain
        self._path = path

    async def load(self) -> TrustBundle:
        try:
            pem = self._path.read_bytes()
        except OSError as error:
            raise CertificateRefused(f"trust bundle {self._path}: {error.strerror}") from error
        return TrustBundle.parse(self._trust_domain, pem)
