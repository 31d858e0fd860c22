"""SIGTERM under load ends every process with 0."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import wait_for
from sidecar.demo.traffic import Traffic
from tests.e2e.application import Application
from tests.e2e.lab import HTTP1_TO_SERVER, Lab, bootstrap, without_waker

CALLERS = 6
ENOUGH = 10


def stopped_under_load(envoy: Envoy, port: int) -> int:
    """Every request is a handshake; the process is ended in the midst of them."""
    with ExitStack() as stack:
        callers = [stack.enter_context(Traffic(port)) for _ in range(CALLERS)]
        wait_for(lambda: all(caller.answered >= ENOUGH for caller in callers), "load")
        return envoy.stop()


@pytest.mark.parametrize("waker", ["wf", "lowat"])
@pytest.mark.parametrize("repetition", [1, 2, 3])
@pytest.mark.parametrize("role", ["server", "client"])
def test_an_envoy_ends_with_0_under_handshakes(
    lab: Lab, application: Application, role: str, repetition: int, waker: str
) -> None:
    server_text = bootstrap("server")
    client_text = bootstrap("client", HTTP1_TO_SERVER)
    if waker == "lowat":
        server_text, client_text = without_waker(server_text), without_waker(client_text)
    with (
        lab.server(application.port, server_text, concurrency=2) as server,
        lab.client(
            server.port("mtls"), client_text, REQUESTS_PER_CONNECTION=1, concurrency=2
        ) as client,
    ):
        envoy = server if role == "server" else client
        assert stopped_under_load(envoy, client.port("outbound")) == 0
        assert "panicked" not in envoy.log.read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize("role", ["server", "client"])
def test_a_sidecar_ends_with_0_under_signatures(
    lab: Lab, application: Application, role: str
) -> None:
    with (
        lab.sidecar(SERVER, lab.store()) as servers,
        lab.sidecar(CLIENT, lab.store()) as clients,
        lab.server(application.port, SIGNER_SOCKET=servers.socket) as server,
        lab.client(
            server.port("mtls"), SIGNER_SOCKET=clients.socket, REQUESTS_PER_CONNECTION=1
        ) as client,
        ExitStack() as stack,
    ):
        callers = [stack.enter_context(Traffic(client.port("outbound"))) for _ in range(CALLERS)]
        wait_for(lambda: all(caller.answered >= ENOUGH for caller in callers), "load")
        assert (servers if role == "server" else clients).stop() == 0
        assert server.running
        assert client.running
