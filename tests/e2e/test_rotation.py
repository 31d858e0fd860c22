"""New keys and certificates under load: none lost, new ones used at once, old keys destroyed."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sidecar.admin.client import CommandFailed
from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import Sidecar
from sidecar.demo.softhsm import SoftHsmStore
from sidecar.demo.traffic import Traffic, get
from tests.e2e.application import Application
from tests.e2e.lab import Lab
from tests.e2e.peers import client_context, connect
from tests.e2e.record import Record
from tests.e2e.watching import leaf_of, rotate

ROTATIONS = 3
ENOUGH = 20


class Workload:
    """A sidecar on a store of its own, and what can be seen of its keys."""

    def __init__(self, lab: Lab, stack: ExitStack, spiffe_id: str) -> None:
        self._store: SoftHsmStore = lab.store()
        self.sidecar: Sidecar = stack.enter_context(lab.sidecar(spiffe_id, self._store))

    @property
    def key_id(self) -> str:
        return self.sidecar.status().identities[0].key_id.hex()

    @property
    def serial(self) -> int:
        return int(self.sidecar.status().identities[0].serial, 16)

    def keys(self) -> set[str]:
        """What `meshkey keys` lists."""
        done = subprocess.run(
            [sys.executable, "-m", "sidecar", "keys", "--json", "--config",
             str(self.sidecar.configuration)],
            env={**os.environ, **self._store.environment}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        return {row["key_id"] for row in json.loads(done.stdout)}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def presented_serial(lab: Lab, server: Envoy) -> int:
    """Of the server's certificate on a new connection."""
    with connect(server.port("mtls"), client_context(lab.credentials(CLIENT))) as connection:
        der = connection.getpeercert(binary_form=True)
    assert der
    return x509.load_der_x509_certificate(der).serial_number


def test_identities_rotate_under_load_and_old_keys_are_destroyed(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    client, server = Workload(lab, stack, CLIENT), Workload(lab, stack, SERVER)
    server_envoy = stack.enter_context(
        lab.server(application.port, SIGNER_SOCKET=server.sidecar.socket)
    )
    client_envoy = stack.enter_context(
        lab.client(
            server_envoy.port("mtls"),
            SIGNER_SOCKET=client.sidecar.socket,
            REQUESTS_PER_CONNECTION=2,
        )
    )
    old = http.client.HTTPSConnection(
        "127.0.0.1",
        server_envoy.port("mtls"),
        timeout=30,
        context=client_context(lab.credentials(CLIENT)),
    )
    stack.enter_context(closing(old))
    old.request("GET", "/old")
    old.getresponse().read()
    old_socket = old.sock
    first_keys = {client.key_id, server.key_id}
    assert client.keys() | server.keys() == first_keys

    handshakes = Record(server_envoy)
    with Traffic(client_envoy.port("outbound")) as traffic:
        for _ in range(ROTATIONS):
            for workload in (client, server):
                enough = traffic.answered + ENOUGH
                wait_for(lambda: traffic.answered >= enough, "requests between rotations")  # noqa: B023
                before = workload.serial
                rotate(workload.sidecar)
                assert workload.serial != before
            assert presented_serial(lab, server_envoy) == server.serial
        enough = traffic.answered + ENOUGH
        wait_for(lambda: traffic.answered >= enough, "requests after the rotations")
    assert traffic.lost == []
    assert set(handshakes.handshakes()) == {"server.ok"}
    # At most two requests share a connection, so each rotation met many handshakes.
    assert handshakes.handshakes()["server.ok"] >= traffic.answered // 2

    # A new connection of the client's presents its new certificate.
    application.forget()
    for _ in range(3):
        assert get(client_envoy.port("outbound"))[0] == 200
    digest = leaf_of(client.sidecar).fingerprint(hashes.SHA256()).hex()
    assert f"Hash={digest};" in application.requests[-1].values("x-forwarded-client-cert")[0]

    for workload in (client, server):
        wait_for(lambda: workload.keys() == {workload.key_id}, "old keys are destroyed", 60)  # noqa: B023
        assert workload.key_id not in first_keys
    # A connection needs no key once it is there.
    old.request("GET", "/old")
    response = old.getresponse()
    assert (response.status, old.sock is old_socket) == (200, True)


def test_a_failed_renewal_takes_nothing_away(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    server = Workload(lab, stack, SERVER)
    envoy = stack.enter_context(lab.server(application.port, SIGNER_SOCKET=server.sidecar.socket))
    before = presented_serial(lab, envoy)
    roots = lab.roots.read_bytes()
    # The local CA's certificates are refused while its root is not in the bundle.
    lab.roots.write_bytes(lab.forge.root_pem)
    try:
        with pytest.raises(CommandFailed, match="the chain does not lead to a trusted root"):
            server.sidecar.rotate()
    finally:
        lab.roots.write_bytes(roots)
    assert presented_serial(lab, envoy) == before == server.serial
    assert server.keys() == {server.key_id}
    rotate(server.sidecar)
    assert presented_serial(lab, envoy) == server.serial != before
