"""meshkey's own processes, started the way a user starts them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar.admin.client import AdminClient, CommandFailed
from sidecar.demo.processes import Process
from sidecar.demo.softhsm import SoftHsmStore


class Served(Process):
    """One `meshkey serve` with its own configuration file and admin socket."""

    # What Python runs as `meshkey`.
    module: ClassVar = "sidecar"

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
            [sys.executable, "-m", self.module, "serve", "--config", str(self.configuration)],
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
        self.proxy = directory / f"{name}.proxy.sock"
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
                "signer": {"socket": self.socket, "proxy": self.proxy, "allow_own_user": True},
                "caller": _this_user(tls12=bool(identity and identity.get("tls12"))),
                **({"audit": audit} if audit else {}),
            },
            directory,
            store.environment,
        )


def _this_user(*, tls12: bool) -> dict[str, Any]:
    """Lets in what runs as the demo's own user: everything in it does."""
    versions = ("tls13", "tls12") if tls12 else ("tls13",)
    return {
        "name": "demo",
        "uid": os.getuid(),
        "identities": ["default"],
        "purposes": [f"{version}-{side}" for version in versions for side in ("server", "client")],
    }


def _toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    # A JSON string, number or list of them is a TOML one too.
    return "\n".join(
        f"[{name}]\n"
        + "".join(
            f"{key} = {json.dumps(value if isinstance(value, int | list) else str(value))}\n"
            for key, value in settings.items()
        )
        for name, settings in sections.items()
    )
