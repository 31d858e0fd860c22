"""meshkey's own processes, started the way a user starts them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar.admin.client import AdminClient, CommandFailed
from sidecar.demo.processes import Process
from sidecar.demo.softhsm import SoftHsmStore


class Served(Process):
    """One `meshkey serve` with its own configuration file and admin socket."""

    def __init__(
        self,
        name: str,
        sections: Mapping[str, Mapping[str, Any]],
        directory: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.admin_socket = directory / f"{name}.admin.sock"
        self.configuration = directory / f"{name}.toml"
        self.configuration.write_text(
            _toml({**sections, "admin": {"socket": self.admin_socket}}), encoding="utf-8"
        )
        super().__init__(
            name,
            [sys.executable, "-m", "sidecar", "serve", "--config", str(self.configuration)],
            directory / f"{name}.log",
            environment,
        )

    def ready(self) -> None:
        """Waits until it serves.

        Raises:
            StartFailed: with the end of its log.
        """
        self.wait_until(self._answers, "it serves")

    def status(self) -> pb.StatusResponse:
        """What `meshkey status` shows."""
        with AdminClient(self.admin_socket) as client:
            return client.status()

    def rotate(self) -> int:
        """What `meshkey rotate` does; returns the new generation."""
        with AdminClient(self.admin_socket) as client:
            return client.rotate("default")

    def certified(self) -> bool:
        """Whether its identity has a certificate."""
        return bool(self.status().identities[0].generation)

    def _answers(self) -> bool:
        # Its socket alone says nothing: a killed predecessor leaves one behind.
        try:
            self.status()
        except CommandFailed:
            return False
        return True


class LocalCa(Served):
    """The evaluation CA with its own token."""

    def __init__(self, store: SoftHsmStore, pin_file: Path, trust_domain: str, directory: Path):
        self.socket = directory / "ca.sock"
        self.root_file = directory / "ca-root.pem"
        super().__init__(
            "ca",
            {
                "token": {"label": "ca", "pin_file": pin_file},
                "issuer": {
                    "socket": self.socket,
                    "trust_domain": trust_domain,
                    "root_file": self.root_file,
                },
            },
            directory,
            store.environment,
        )


class Sidecar(Served):
    """A workload's sidecar."""

    def __init__(
        self,
        name: str,
        spiffe_id: str,
        ca: LocalCa,
        store: SoftHsmStore,
        pin_file: Path,
        directory: Path,
        identity: Mapping[str, Any] | None = None,
        audit: Mapping[str, Any] | None = None,
        **token: Any,
    ) -> None:
        self.socket = directory / f"{name}.signer.sock"
        super().__init__(
            name,
            {
                "token": {"label": "mesh", "pin_file": pin_file, **token},
                "identity": {
                    "spiffe_id": spiffe_id,
                    "trust_bundle": ca.root_file,
                    **(identity or {}),
                },
                "ca": {"socket": ca.socket},
                "signer": {"socket": self.socket},
                **({"audit": audit} if audit else {}),
            },
            directory,
            store.environment,
        )


def _toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    # A JSON string or number is a TOML one too.
    return "\n".join(
        f"[{name}]\n"
        + "".join(
            f"{key} = {json.dumps(value if isinstance(value, int) else str(value))}\n"
            for key, value in settings.items()
        )
        for name, settings in sections.items()
    )
