"""A mesh in one directory: tokens, a local CA, sidecars, Envoys, an application."""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from sidecar.demo.application import Application
from sidecar.demo.credentials import FileCredentials
from sidecar.demo.envoy import BOOTSTRAPS, Envoy
from sidecar.demo.sidecars import LocalCa, Sidecar
from sidecar.demo.softhsm import SoftHsmStore

TRUST_DOMAIN = "demo.mesh"
CLIENT = f"spiffe://{TRUST_DOMAIN}/ns/demo/sa/client"
SERVER = f"spiffe://{TRUST_DOMAIN}/ns/demo/sa/server"
_APPLICATION_ROUTE = r"route: \{cluster: app[^}]*\}"


class Mesh:
    """Starts each part when it is asked for; leaving the context stops all, newest first."""

    def __init__(self) -> None:
        # Short, because a socket's path has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="meshkey-", dir="/tmp"))
        self._keep_files = False
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
        if not self._keep_files:
            shutil.rmtree(self.directory, ignore_errors=True)

    def keep_files(self) -> None:
        """Leaves logs and configurations behind, for whoever looks into a failure."""
        self._keep_files = True

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

    def start_sidecar(self, name: str, spiffe_id: str, **token: Any) -> Sidecar:
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
        self,
        name: str,
        bootstrap: str,
        *,
        concurrency: int = 1,
        answer_itself: bool = False,
        **values: object,
    ) -> Envoy:
        """An Envoy with `envoy-config/<bootstrap>`; returns once it is live.

        With `answer_itself` it answers requests with an empty 200 instead of asking the
        application, for measuring what Envoy itself costs.
        """
        text = (BOOTSTRAPS / bootstrap).read_text(encoding="utf-8")
        if answer_itself:
            text = re.sub(_APPLICATION_ROUTE, "direct_response: {status: 200}", text)
        envoy = self._stack.enter_context(
            Envoy(name, text, values, self.directory / f"envoy-{name}", concurrency=concurrency)
        )
        envoy.ready()
        return envoy

    def start_module_envoy(self, name: str, bootstrap: str, **values: Any) -> Envoy:
        """An Envoy with the module; returns once that can do handshakes."""
        envoy = self.start_envoy(name, bootstrap, **values)
        envoy.wait_until(envoy.certified, "its module has a certificate")
        return envoy

    def start_server_envoy(self, sidecar: Sidecar, app_port: int, **options: Any) -> Envoy:
        """envoy-config/server.yaml; only the demo's client may call."""
        return self.start_module_envoy(
            "server",
            "server.yaml",
            **options,
            SIGNER_SOCKET=sidecar.socket,
            TRUST_DOMAIN=TRUST_DOMAIN,
            ALLOWED_PEER=CLIENT,
            LISTEN_PORT=0,
            APP_PORT=app_port,
        )

    def start_client_envoy(
        self, sidecar: Sidecar, server_port: int, *, requests_per_connection: int = 0
    ) -> Envoy:
        """envoy-config/client.yaml; it expects the demo's server."""
        return self.start_module_envoy(
            "client",
            "client.yaml",
            SIGNER_SOCKET=sidecar.socket,
            PEER=SERVER,
            LISTEN_PORT=0,
            SERVER_PORT=server_port,
            REQUESTS_PER_CONNECTION=requests_per_connection,
        )

    def start_native_envoy(
        self, credentials: FileCredentials, app_port: int, **options: Any
    ) -> Envoy:
        """envoy-config/server-native.yaml: Envoy's own TLS, its key in its memory."""
        return self.start_envoy(
            "native",
            "server-native.yaml",
            **options,
            PEER=CLIENT,
            LISTEN_PORT=0,
            APP_PORT=app_port,
            CHAIN=credentials.chain,
            KEY=credentials.key,
            ROOTS=self.ca.root_file,
        )

    def file_credentials(self, spiffe_id: str, name: str) -> FileCredentials:
        """A key in a file, certified by the CA."""
        return FileCredentials.issue(self.ca.socket, spiffe_id, self.directory, name)
