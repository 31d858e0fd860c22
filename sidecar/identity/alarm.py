"""Says once when an identity is worse or well again."""

from __future__ import annotations

import structlog

from sidecar.core.rotation import Health

log = structlog.get_logger(__name__)

# After which it is worth a word that all is well.
_ALARMS = {Health.LATE, Health.CRITICAL, Health.LAPSED, Health.EXPIRED}


class Alarm:
    """Remembers how one identity was doing."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._health = Health.WAITING

    def observe(self, health: Health, last_error: str) -> None:
        """Look as often as it may change."""
        before, self._health = self._health, health
        if health is before:
            return
        facts = {"identity": self._name, "last_error": last_error}
        if health is Health.LATE:
            log.warning("certificate not renewed in time", **facts)
        elif health is Health.CRITICAL:
            log.error("certificate about to expire", **facts)
        elif health is Health.LAPSED:
            log.critical("lease over, nothing is signed", **facts)
        elif health is Health.EXPIRED:
            log.critical("certificate expired, nothing is signed", **facts)
        elif health is Health.VALID and before in _ALARMS:
            log.info("certificate valid again", identity=self._name)
