"""The files that callers' tokens are verified with."""

from __future__ import annotations

import asyncio
from datetime import datetime

from sidecar.config.callers import BearerSettings
from sidecar.doctor.finding import Finding, tried


def examine_bearer(settings: BearerSettings, now: datetime) -> Finding:
    """Reads them as a start does. Loads what verifies tokens, so only where that is configured."""
    from sidecar.callers.bearer import Wanted
    from sidecar.callers.bearer_files import BearerTokens

    needs_id = settings.revoked is not None
    wanted = Wanted(settings.audience, settings.issuer, settings.longest, needs_id=needs_id)

    def usable() -> str:
        asyncio.run(BearerTokens(settings.jwks, settings.revoked, wanted, lambda: now).begin())
        return ", ".join(str(file) for file in (settings.jwks, settings.revoked) if file)

    return tried("bearer", usable)
