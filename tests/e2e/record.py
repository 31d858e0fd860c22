"""What an Envoy has counted and logged since a moment of a test."""

from __future__ import annotations

import re
from typing import Any

from sidecar.demo.envoy import Envoy
from sidecar.demo.processes import wait_for

_PREFIX = "dynamicmodulescustom.meshkey."
_GAUGES = re.compile(
    "in_flight|in_flight_max|generation|connected|workers|allow_any_workload|lists_missing"
)


class Record:
    """Begins when it is made."""

    def __init__(self, envoy: Envoy) -> None:
        self._envoy = envoy
        self._before = _counters(envoy)
        self._seen = envoy.log.stat().st_size

    def handshakes(self) -> dict[str, int]:
        """How many ended how: {"server.ok": 2, "client.failed.peer_usage": 1}."""
        return self._counted("handshakes.")

    def signatures(self) -> dict[str, int]:
        """{"asked": 2, "made": 2}."""
        return self._counted("signatures.")

    def peers(self) -> dict[str, int]:
        """{"denied": 1}: turned away by the companion."""
        return self._counted("peers.")

    def connections(self) -> dict[str, int]:
        """{"server.closed.peer_denied": 1}: established, and closed by the module."""
        return self._counted("connections.")

    def logged(self) -> list[str]:
        """What the module has said."""
        with self._envoy.log.open("rb") as log:
            log.seek(self._seen)
            lines = log.read().decode(errors="replace").splitlines()
        return [line.partition(" meshkey: ")[2] for line in lines if " meshkey: " in line]

    def wait_for_handshakes(self, **wanted: int) -> None:
        """Waits until exactly these have ended; dots are written as double underscores."""
        expected = {name.replace("__", "."): number for name, number in wanted.items()}
        wait_for(lambda: sum(self.handshakes().values()) >= sum(expected.values()), f"{expected}")
        assert self.handshakes() == expected, self.logged()

    def wait_for_closed(self, **wanted: int) -> None:
        """Waits until exactly these have been closed: `server__peer_denied=1`."""
        expected = {name.replace("__", ".closed."): number for name, number in wanted.items()}
        wait_for(lambda: sum(self.connections().values()) >= sum(expected.values()), f"{expected}")
        assert self.connections() == expected, self.logged()

    def _counted(self, kind: str) -> dict[str, int]:
        now = _counters(self._envoy)
        return {
            name.removeprefix(kind): number - self._before.get(name, 0)
            for name, number in now.items()
            if name.startswith(kind) and number != self._before.get(name, 0)
        }


def wait_for_identity(envoy: Envoy) -> None:
    """Waits until the module has its first identity."""
    told = ", generation 1: "
    wait_for(lambda: told in envoy.log.read_text(encoding="utf-8"), "an identity")


def gauge(envoy: Envoy, name: str) -> int:
    """The level of one of the module's gauges."""
    return envoy.stats(f"^{_PREFIX}{name}$".replace(".", "[.]"))[_PREFIX + name]


def access_to(envoy: Envoy, path: str) -> dict[str, Any]:
    """The one entry of the access log for that path, once it is there."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = [entry for entry in envoy.access_log() if entry["path"] == path]
        return bool(found)

    wait_for(look, f"an access log entry for {path}")
    (entry,) = found
    return entry


def _counters(envoy: Envoy) -> dict[str, int]:
    return {
        name.removeprefix(_PREFIX): number
        for name, number in envoy.stats("meshkey").items()
        if name.startswith(_PREFIX) and not _GAUGES.fullmatch(name.rpartition(".")[2])
    }
