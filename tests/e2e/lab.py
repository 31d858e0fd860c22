"""The parts that tests share: a mesh that also trusts a CA whose key tests hold."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates

from sidecar.demo.credentials import FileCredentials
from sidecar.demo.envoy import BOOTSTRAPS, Envoy
from sidecar.demo.mesh import CLIENT, SERVER, TRUST_DOMAIN, Mesh
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import Sidecar
from sidecar.demo.softhsm import SoftHsmStore
from tests.e2e.fake_signer import FakeSigner
from tests.e2e.forge import Forge

OTHER = f"spiffe://{TRUST_DOMAIN}/ns/demo/sa/other"
TEST_BOOTSTRAPS = Path(__file__).parent / "bootstraps"

# Whose logs to show when a test fails.
open_labs: list[Lab] = []


class Lab:
    """Tokens, the local CA and a sidecar each for the demo's client and server."""

    def __init__(self) -> None:
        self.mesh = Mesh()
        self._numbers = count(1)
        open_labs.append(self)

    def __enter__(self) -> Lab:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        open_labs.remove(self)
        self.mesh.__exit__(kind, error, trace)

    @property
    def directory(self) -> Path:
        return self.mesh.directory

    def _start(self) -> None:
        self.mesh.initialise_tokens()
        ca = self.mesh.start_ca()
        self.forge = Forge(self.directory, "forge")
        self.strangers = Forge(self.directory, "strangers")
        bundle = self.directory / "roots.pem"
        bundle.write_bytes(ca.root_file.read_bytes() + self.forge.root_pem)
        ca.root_file = bundle
        self.client_sidecar = self.mesh.start_sidecar("client", CLIENT)
        self.server_sidecar = self.mesh.start_sidecar("server", SERVER)

    @property
    def roots(self) -> Path:
        """PEM file: the local CA's root and the forge's."""
        return self.mesh.ca.root_file

    @property
    def local_root_der(self) -> bytes:
        """The local CA's root."""
        root = load_pem_x509_certificates(self.roots.read_bytes())[0]
        return root.public_bytes(Encoding.DER)

    def credentials(self, spiffe_id: str) -> FileCredentials:
        """A key in a file, certified by the local CA."""
        return self.mesh.file_credentials(spiffe_id, f"file-{next(self._numbers)}")

    def short_path(self, name: str) -> Path:
        """A path of its own that leaves room for sockets below it."""
        return self.directory / f"{name}{next(self._numbers)}"

    def store(self) -> SoftHsmStore:
        """A token store of its own, with the token "mesh"."""
        store = SoftHsmStore.create(self.short_path("hsm"))
        store.initialise("mesh")
        return store

    @contextmanager
    def sidecar(
        self,
        spiffe_id: str,
        store: SoftHsmStore,
        name: str = "",
        identity: Mapping[str, object] | None = None,
        **token: object,
    ) -> Iterator[Sidecar]:
        """A sidecar on `store`, with its certificate."""
        with Sidecar(
            name or self.short_path("sc").name,
            spiffe_id,
            self.mesh.ca,
            store,
            store.directory / "mesh.pin",
            self.directory,
            identity,
            None,
            **token,
        ) as sidecar:
            sidecar.ready()
            sidecar.wait_until(sidecar.certified, "a certificate")
            yield sidecar

    @contextmanager
    def envoy(
        self, bootstrap: str, values: Mapping[str, object], concurrency: int = 1
    ) -> Iterator[Envoy]:
        """A live Envoy with the text of a bootstrap."""
        with self.unready_envoy(bootstrap, values, concurrency) as envoy:
            envoy.ready()
            if _listens(values.get("SIGNER_SOCKET")):
                # A signer that has not seen this program yet looks at all of it first.
                wait_for(lambda: _is_let_in(envoy), "the signer lets it in")
            yield envoy

    def unready_envoy(
        self, bootstrap: str, values: Mapping[str, object], concurrency: int = 1
    ) -> Envoy:
        """An Envoy of which nobody knows whether it will be live."""
        directory = self.short_path("ev")
        return Envoy(
            directory.name,
            bootstrap,
            {**values, "LISTEN_PORT": 0},
            directory,
            concurrency=concurrency,
        )

    @contextmanager
    def server(
        self, app_port: int, text: str = "", *, concurrency: int = 1, **values: object
    ) -> Iterator[Envoy]:
        """envoy-config/server.yaml, or `text` made from it; the demo's client may call."""
        values = {**self.server_values(app_port), **values}
        with self.envoy(text or bootstrap("server"), values, concurrency) as envoy:
            yield envoy

    def server_values(self, app_port: int) -> dict[str, object]:
        """What envoy-config/server.yaml asks for."""
        return {
            "SIGNER_SOCKET": self.server_sidecar.socket,
            "TRUST_DOMAIN": TRUST_DOMAIN,
            "ALLOWED_PEER": CLIENT,
            "APP_PORT": app_port,
        }

    @contextmanager
    def client(
        self, server_port: int, text: str = "", *, concurrency: int = 1, **values: object
    ) -> Iterator[Envoy]:
        """envoy-config/client.yaml, or `text` made from it; expects the demo's server."""
        values = {**self.client_values(server_port), **values}
        with self.envoy(text or bootstrap("client"), values, concurrency) as envoy:
            yield envoy

    def client_values(self, server_port: int) -> dict[str, object]:
        """What envoy-config/client.yaml asks for."""
        return {
            "SIGNER_SOCKET": self.client_sidecar.socket,
            "PEER": SERVER,
            "SERVER_PORT": server_port,
            "REQUESTS_PER_CONNECTION": 0,
        }

    @contextmanager
    def tcp_server(
        self, app_port: int, peers: str, text: str = "", **values: object
    ) -> Iterator[Envoy]:
        """bootstraps/server-tcp.yaml, or `text` made from it; `peers` is the transport socket's
        matcher."""
        values = {**self.server_values(app_port), "PEERS": peers, **values}
        with self.envoy(text or bootstrap("server-tcp"), values) as envoy:
            yield envoy

    @contextmanager
    def tcp_client(self, server_port: int, **values: object) -> Iterator[Envoy]:
        """bootstraps/client-tcp.yaml; expects the demo's server."""
        values = {**self.client_values(server_port), **values}
        with self.envoy(bootstrap("client-tcp"), values) as envoy:
            yield envoy

    def fake_signer(self, stack: ExitStack, spiffe_id: str, **behaviour: Any) -> FakeSigner:
        """Certified by the forge; trusts its root and the local CA's."""
        identity = self.forge.certify(spiffe_id)
        return stack.enter_context(
            FakeSigner(
                self.short_path("sign"),
                [identity.certificate],
                identity.private_key,
                {TRUST_DOMAIN: [self.forge.root_der, self.local_root_der]},
                spiffe_id=spiffe_id,
                **behaviour,
            )
        )

    def logs(self) -> list[tuple[str, str]]:
        """The end of every log, with its name."""
        return [
            (str(log.relative_to(self.directory)), _end(log))
            for log in sorted(self.directory.rglob("*.log"))
        ]


def _listens(path: object) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        return path is not None and asking.connect_ex(str(path)) == 0


def _is_let_in(envoy: Envoy) -> bool:
    # Without a listener of the module's there is nowhere for it to count.
    connected = envoy.stats("[.]meshkey[.]signers[.]connected$")
    return not connected or bool(sum(connected.values()))


def bootstrap(name: str, changes: dict[str, str] | None = None) -> str:
    """The text of a bootstrap of envoy-config, or of the tests' own, with `changes`.

    What is changed must be there exactly once: a changed document does not go unnoticed.
    """
    documented = BOOTSTRAPS / f"{name}.yaml"
    file = documented if documented.exists() else TEST_BOOTSTRAPS / f"{name}.yaml"
    text = file.read_text(encoding="utf-8")
    for old, new in (changes or {}).items():
        assert text.count(old) == 1, f"{file} has {text.count(old)} times {old!r}"
        text = text.replace(old, new)
    return text


def companion_peers(matcher: str) -> dict[str, str]:
    """The change that has the companion let in only the peers of a matcher."""
    name = "          filter_name: meshkey_peer\n"
    config = f"""          filter_config:
            "@type": type.googleapis.com/google.protobuf.Struct
            value: {{peers: {matcher}}}
"""
    return {name: name + config}


def without_waker(text: str) -> str:
    """The bootstrap without its waker listener: the fallback `lowat` wakes."""
    changed, found = re.subn(r"  - name: waker\n.*?\n(?=  clusters:)", "", text, flags=re.DOTALL)
    assert found == 1
    return changed


HTTP1_TO_SERVER = {
    "{http2_protocol_options: {}}": "{http_protocol_options: {}}",
    "alpn: [h2]": "alpn: [http/1.1]",
}


def _end(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    # Envoy lists its header maps at the start, 5 kB in 4 lines.
    lines = [line for line in text.splitlines() if "header map: " not in line]
    return "\n".join(lines[-25:])
