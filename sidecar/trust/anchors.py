"""stub"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sidecar.core.trust import TrustBundle
from sidecar.trust.base import TrustSource


class TrustAnchors:
    def __init__(self, sources: Sequence[TrustSource]) -> None:
        self._sources = sources
        self._bundles: tuple[TrustBundle, ...] = ()
        self._seen: datetime | None = None
        self.errors: dict[str, str] = {}

    @property
    def own(self) -> TrustBundle:
        return self._bundles[0]

    def bundles(self, now: datetime) -> tuple[TrustBundle, ...]:
        return self._bundles

    def settled(self, settle: timedelta) -> datetime:
        assert self._seen
        return self._seen

    async def refresh(self, now: datetime, *, force: bool = False) -> None:
        self._bundles = tuple([await source.load() for source in self._sources])
        self._seen = self._seen or now
