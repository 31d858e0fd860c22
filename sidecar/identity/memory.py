"""What an identity remembers from one start to the next: its certificate, on disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sidecar.core.trust import TrustBundle
from sidecar.identity.enrolment import Enrolled


@dataclass(frozen=True)
class Kept:
    """A key and certificate of an earlier start, checked like a CA's answer."""

    enrolled: Enrolled
    obtained: datetime


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


class NoMemory:
    """For identities without a directory for it: each start begins anew."""

    lasts = False

    async def recall(self, bundle: TrustBundle, now: datetime) -> Kept | None:  # noqa: ARG002
        """Nothing."""
        return None

    async def keep(self, enrolled: Enrolled, obtained: datetime) -> None:
        """Forgets it."""
