"""What goes through established connections: much, both ways, at once, and half closed."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, TRUST_DOMAIN
from tests.e2e.application import Application, content
from tests.e2e.at_once import OK, ask_at_once
from tests.e2e.lab import HTTP1_TO_SERVER, OTHER, Lab, bootstrap, companion_peers
from tests.e2e.peers import client_context, connect
from tests.e2e.record import Record
from tests.e2e.tcp import BANNER, TcpServer, read_all

MUCH = 5 * 1024 * 1024
MANY = 200
# Answered when as many are there at once.
TOGETHER = f"/together/{MANY}"
ONLY_CLIENT = f'{{spiffe_ids: ["{CLIENT}"]}}'
ANY_OF_OURS = f"{{trust_domain: {TRUST_DOMAIN}}}"


@pytest.fixture(params=["h2", "http/1.1"])
def way_through(
    request: pytest.FixtureRequest, lab: Lab, server: Envoy, client: Envoy
) -> Iterator[Envoy]:
    """A client Envoy that speaks this protocol with `server`."""
    if request.param == "h2":
        yield client
        return
    with lab.client(server.port("mtls"), bootstrap("client", HTTP1_TO_SERVER)) as envoy:
        yield envoy


def exchange(envoy: Envoy, method: str, path: str, body: bytes | None = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", envoy.port("outbound"), timeout=60)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        assert response.status == 200
        return response.read()
    finally:
        connection.close()


def test_five_megabytes_go_up_unchanged(way_through: Envoy, application: Application) -> None:
    body = os.urandom(MUCH)
    assert exchange(way_through, "POST", "/", body) == hashlib.sha256(body).hexdigest().encode()


def test_five_megabytes_come_down_unchanged(way_through: Envoy, application: Application) -> None:
    assert exchange(way_through, "GET", f"/bytes/{MUCH}") == content(MUCH)


def test_two_hundred_requests_at_once_have_a_connection_each(
    lab: Lab, server: Envoy, application: Application
) -> None:
    text = bootstrap("client", HTTP1_TO_SERVER)
    with lab.client(server.port("mtls"), text) as client:
        ours, theirs = Record(client), Record(server)
        answers = asyncio.run(ask_at_once(MANY, client.port("outbound"), None, TOGETHER))
        assert answers == [OK] * MANY
        assert len(application.requests) == MANY
        # All were there at once, and HTTP/1.1 has one request a connection.
        assert ours.handshakes() == {"client.ok": MANY}
        assert theirs.handshakes() == {"server.ok": MANY}


def test_two_hundred_clients_connect_at_once(
    lab: Lab, server: Envoy, application: Application
) -> None:
    context = client_context(lab.credentials(CLIENT), "http/1.1")
    record = Record(server)
    answers = asyncio.run(ask_at_once(MANY, server.port("mtls"), context, TOGETHER))
    assert answers == [OK] * MANY
    assert record.handshakes() == {"server.ok": MANY}


def test_a_client_that_has_sent_everything_still_gets_its_answer(lab: Lab) -> None:
    sent = os.urandom(300_000)
    with (
        TcpServer() as upstream,
        lab.tcp_server(upstream.port, ANY_OF_OURS) as server,
        lab.tcp_client(server.port("mtls")) as client,
        socket.create_connection(("127.0.0.1", client.port("outbound")), 30) as connection,
    ):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"300000 octets, and then the end"
        assert upstream.octets == sent


# A server that speaks first: filters of the listener see no data before it does.


def test_a_banner_reaches_an_allowed_peer_that_says_nothing(lab: Lab) -> None:
    with (
        TcpServer(BANNER) as upstream,
        lab.tcp_server(upstream.port, ANY_OF_OURS) as server,
        lab.tcp_client(server.port("mtls")) as client,
    ):
        with connect(server.port("mtls"), client_context(lab.credentials(CLIENT))) as direct:
            assert direct.recv(1024) == BANNER
        with socket.create_connection(("127.0.0.1", client.port("outbound")), 30) as through:
            assert through.recv(1024) == BANNER
        assert upstream.accepted == 2


def test_a_server_that_speaks_first_never_hears_of_a_denied_peer(lab: Lab) -> None:
    with (
        TcpServer(BANNER) as upstream,
        lab.tcp_server(upstream.port, ONLY_CLIENT) as server,
    ):
        record = Record(server)
        denied = client_context(lab.credentials(OTHER))
        for octets in (b"", b"x"):
            assert silence(server.port("mtls"), denied, octets) == b""
        assert silence(server.port("mtls"), client_context(None), b"") == b""
        assert record.handshakes() == {
            "server.failed.peer_unexpected": 2,
            "server.failed.no_peer_certificate": 1,
        }
        # An allowed one comes after them: had they been let through, they would be counted.
        with connect(server.port("mtls"), client_context(lab.credentials(CLIENT))) as allowed:
            assert allowed.recv(1024) == BANNER
        assert upstream.accepted == 1


def test_a_server_that_speaks_first_never_hears_of_a_peer_that_the_companion_denies(
    lab: Lab,
) -> None:
    text = bootstrap("server-tcp", companion_peers(ONLY_CLIENT))
    with (
        TcpServer(BANNER) as upstream,
        lab.tcp_server(upstream.port, ANY_OF_OURS, text) as server,
    ):
        record = Record(server)
        denied = client_context(lab.credentials(OTHER))
        for octets in (b"", b"x"):
            assert silence(server.port("mtls"), denied, octets) == b""
        assert record.handshakes() == {"server.ok": 2}
        assert record.peers() == {"denied": 2}
        said = f"meshkey_peer closed a connection: peer {OTHER} is not among the expected peers"
        assert [line for line in record.logged() if "meshkey_peer" in line] == [said, said]
        # As above: an allowed one after them.
        with connect(server.port("mtls"), client_context(lab.credentials(CLIENT))) as allowed:
            assert allowed.recv(1024) == BANNER
        assert upstream.accepted == 1
        assert record.peers() == {"denied": 2}


def test_network_rbac_decides_at_the_first_octet_which_is_too_late_for_a_banner(lab: Lab) -> None:
    # Why a listener for raw TCP names its peers, there or in the companion: RBAC does
    # not see a connection on which nothing is said. Should this fail with a new Envoy, the
    # advice can be changed.
    with (
        TcpServer(BANNER) as upstream,
        lab.tcp_server(upstream.port, ANY_OF_OURS) as server,
        connect(server.port("mtls"), client_context(lab.credentials(OTHER))) as denied,
    ):
        assert denied.recv(1024) == BANNER
        denied.sendall(b"x")
        assert denied.recv(1024) == b""
        assert upstream.octets == b""


def silence(port: int, context: ssl.SSLContext, octets: bytes) -> bytes:
    """What comes back, from a connection that must be closed by the server."""
    received = b""
    with suppress(ssl.SSLError, ConnectionError), connect(port, context) as connection:
        if octets:
            connection.sendall(octets)
        while part := connection.recv(65536):
            received += part
    return received
