"""What identity asks of a source of trusted roots."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from sidecar.core.trust import TrustBundle


class TrustSource(Protocol):
    """The roots of one trust domain, as somebody keeps them somewhere."""

    @property
    def interval(self) -> timedelta:
        """How often it is worth looking for changes."""
        ...

    async def load(self) -> TrustBundle:
        """The roots as they are now: all of them, or an error; never half of an update.

        Raises:
            TrustUnavailable: the source cannot be read now; what was read before stays in use.
            CertificateRefused: what it holds is no trust bundle of its domain.
        """
        ...
