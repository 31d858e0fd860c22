"""A mesh in one directory: tokens, a local CA, sidecars, Envoys, an application."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from sidecar.demo.application import Application
from sidecar.demo.credentials import FileCredentials
from sidecar.demo.envoy import BOOTSTRAPS, Envoy
from sidecar.demo.sidecars import LocalCa, Sidecar
from sidecar.demo.softhsm import SoftHsmStore

TRUST_DOMAIN = "demo.mesh"
CLIENT = f"spiffe://{TRUST_DOMAIN}/ns/demo/sa/client"
SERVER = f"spiffe://{TRUST_DOMAIN}/ns/demo/sa/server"


class Mesh:
    """Starts each part when it is asked for; leaving the context stops all, newest first."""

    def __init__(self, *, keep: bool = False) -> None:
        # Short, because a socket's path has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="meshkey-", dir="/tmp"))
        self._keep = keep
        self._stack = ExitStack()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        if not self._keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def initialise_tokens(self) -> None:
        """Two tokens in one store: "mesh" for workloads, "ca" for the CA."""
        self.store = SoftHsmStore.create(self.directory / "softhsm2")
        self.mesh_pin = self.store.initialise("mesh")
        self.ca_pin = self.store.initialise("ca")

    def start_ca(self) -> LocalCa:
        """The local CA, in a process of its own."""
        self.ca = self._stack.enter_context(
            LocalCa(self.store, self.ca_pin, TRUST_DOMAIN, self.directory)
        )
        self.ca.ready()
        return self.ca

    def start_sidecar(self, name: str, spiffe_id: str, **token: object) -> Sidecar:
        """A sidecar; returns once it has its certificate."""
        sidecar = self._stack.enter_context(
            Sidecar(name, spiffe_id, self.ca, self.store, self.mesh_pin, self.directory, **token)
        )
        sidecar.ready()
        sidecar.wait_until(sidecar.certified, "a certificate")
        return sidecar

    def start_application(self) -> Application:
        """The application, in this process."""
        return self._stack.enter_context(Application())

    def start_envoy(
        self, name: str, bootstrap: str, *, concurrency: int = 1, **values: object
    ) -> Envoy:
        """An Envoy with `envoy-config/<bootstrap>`; returns once it is live."""
        text = (BOOTSTRAPS / bootstrap).read_text(encoding="utf-8")
        envoy = self._stack.enter_context(
            Envoy(name, text, values, self.directory, concurrency=concurrency)
        )
        envoy.ready()
        return envoy

    def file_credentials(self, spiffe_id: str, name: str) -> FileCredentials:
        """A key in a file, certified by the CA."""
        return FileCredentials.issue(self.ca.socket, spiffe_id, self.directory, name)
