"""A deny list, from the file to established connections: a real sidecar and a real Envoy."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sidecar.app.clock import wall
from sidecar.core.spiffe import SpiffeId
from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import Served
from tests.e2e.application import Application
from tests.e2e.at_once import OK
from tests.e2e.lab import OTHER, Lab, bootstrap
from tests.e2e.peers import GET, call, client_context, connect
from tests.e2e.record import Record
from tests.fixtures.deny_lists import ListSigner, deny_list
from tests.fixtures.rules import this_user

WORKERS = 2
# So that the connections are for two peers.
ANY_MAY_CALL = {'string_match: {exact: "${ALLOWED_PEER}"}': 'string_match: {prefix: "spiffe://"}'}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Denying(Served):
    """The server's sidecar, which follows a deny list; started again where it was."""

    def __init__(self, lab: Lab, directory: Path, signer: ListSigner) -> None:
        self.socket = directory / "signer.sock"
        self.list = directory / "list.jws"
        self._signer = signer
        keys = directory / "keys.pem"
        keys.write_bytes(signer.pem)
        store = lab.store()
        super().__init__(
            "web",
            {
                "token": {"label": "mesh", "pin_file": store.directory / "mesh.pin"},
                "identity": {"spiffe_id": SERVER, "trust_bundle": lab.roots},
                "ca": {"socket": lab.mesh.ca.socket},
                "signer": {"socket": self.socket, "allow_own_user": True},
                "caller": this_user(),
                "deny_list": {"file": self.list, "key": keys, "state": directory / "state"},
            },
            directory,
            store.environment,
        )

    def deny(self, sequence: int, *peers: str) -> None:
        """Puts a list in the place of the one before."""
        ids = [SpiffeId.parse(peer) for peer in peers]
        new = self.list.with_suffix(".new")
        issued_at = wall().replace(microsecond=0)
        new.write_bytes(self._signer.sign(deny_list(sequence, *ids, issued_at=issued_at)))
        new.replace(self.list)


class Caller:
    """Asks on one connection that stays, and tries new ones."""

    def __init__(self, stack: ExitStack, lab: Lab, server: Envoy, spiffe_id: str) -> None:
        self._port = server.port("mtls")
        self._context = client_context(lab.credentials(spiffe_id), "http/1.1")
        self._connection: ssl.SSLSocket = stack.enter_context(
            closing(connect(self._port, self._context))
        )

    def ask(self) -> bytes:
        """What the connection that stays answers."""
        self._connection.sendall(GET.replace(b"connection: close\r\n", b""))
        return self._connection.recv(65536)

    def is_told(self) -> bool:
        """Waits for the end of the connection: TLS's own, or it raises."""
        return self._connection.recv(1024) == b""

    def is_let_in(self) -> bool:
        """Whether a new handshake has an answer."""
        return call(self._port, self._context).status == 200


def test_a_denied_peers_connection_closes_its_handshakes_are_refused_and_another_goes_on(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    directory = lab.short_path("dl")
    directory.mkdir(mode=0o700)
    sidecar = stack.enter_context(Denying(lab, directory, ListSigner()))
    sidecar.ready()
    sidecar.wait_until(sidecar.certified, "a certificate")
    text = bootstrap("server", ANY_MAY_CALL)
    server = stack.enter_context(
        lab.server(application.port, text, concurrency=WORKERS, SIGNER_SOCKET=sidecar.socket)
    )
    denied, welcome = (Caller(stack, lab, server, each) for each in (OTHER, CLIENT))
    assert denied.ask().startswith(OK)
    assert welcome.ask().startswith(OK)
    record = Record(server)

    sidecar.deny(7, OTHER)
    record.wait_for_closed(server__peer_denied=1)
    assert denied.is_told()
    assert not denied.is_let_in()
    assert f"server handshake failed: peer {OTHER} is denied (list 7)" in record.logged()
    assert welcome.ask().startswith(OK)
    assert welcome.is_let_in()
    # No certificate was needed for it, and an older list changes nothing.
    assert sidecar.status().identities[0].generation == 2
    sidecar.deny(6)
    wait_for(lambda: sidecar.status().deny_list.refused == 1, "it is refused")
    assert not denied.is_let_in()

    sidecar.deny(8)
    wait_for(denied.is_let_in, "it is off the list")
    assert welcome.ask().startswith(OK)
