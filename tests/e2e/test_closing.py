"""What a signer takes back is taken from established connections too, idle or busy, both ways."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta

import pytest

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER, TRUST_DOMAIN
from sidecar.demo.processes import wait_for
from sidecar.demo.traffic import get
from tests.e2e.application import Application
from tests.e2e.at_once import OK, ask_at_once
from tests.e2e.fake_signer import KEY_ID
from tests.e2e.lab import HTTP1_TO_SERVER, OTHER, Lab, bootstrap, without_waker
from tests.e2e.peers import GET, Files, ask_on, call, client_context, connect
from tests.e2e.record import Record, gauge, wait_for_identity
from tests.e2e.tcp import BANNER, TcpServer

MANY = 24
WORKERS = 2
ANY_OF_OURS = f"{{trust_domain: {TRUST_DOMAIN}}}"
# So that both ends of the connections are for two peers.
ANY_MAY_CALL = {'string_match: {exact: "${ALLOWED_PEER}"}': 'string_match: {prefix: "spiffe://"}'}
OTHER_IS_DENIED = pb.DeniedPeers(sequence=7, spiffe_ids=[OTHER])


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["wf", "lowat"])
def woken(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Has a bootstrap's workers be woken in one of two ways."""
    return without_waker if request.param == "lowat" else str


class Callers:
    """TLS connections to a listener."""

    def __init__(self, stack: ExitStack, port: int, credentials: Files) -> None:
        self._stack, self._port = stack, port
        self.context = client_context(credentials, "http/1.1")
        self.connections: list[ssl.SSLSocket] = []

    def connect(self, number: int) -> None:
        """So many more, of which nobody says anything."""
        new = (self._stack.enter_context(connect(self._port, self.context)) for _ in range(number))
        self.connections += new

    def ask(self) -> None:
        """Each has a request answered, so the server knows it as established."""
        for connection in self.connections:
            assert ask_on(connection).startswith(OK)

    def are_told(self) -> bool:
        """Each ends as TLS ends, with a close_notify: anything else would raise."""
        return [connection.recv(1024) for connection in self.connections] == [b""] * len(
            self.connections
        )

    def refused(self) -> bool:
        return call(self._port, self.context).octets == b""


def count(envoy: Envoy, name: str) -> int:
    """One of Envoy's own counters or gauges."""
    return envoy.stats(f"^{name}$")[name]


def covered(envoy: Envoy, text: str) -> None:
    workers = WORKERS if "meshkey_waker" in text else 0
    wait_for(lambda: gauge(envoy, "waker.workers") == workers, "the waker")


def test_a_withdrawn_identity_loses_a_servers_connections_on_every_worker_and_comes_back(
    lab: Lab, application: Application, stack: ExitStack, woken: Callable[[str], str]
) -> None:
    ours, text = lab.fake_signer(stack, SERVER), woken(bootstrap("server"))
    server = stack.enter_context(
        lab.server(application.port, text, concurrency=WORKERS, SIGNER_SOCKET=ours.socket)
    )
    wait_for_identity(server)
    covered(server, text)
    callers = Callers(stack, server.port("mtls"), lab.credentials(CLIENT))
    record = Record(server)
    callers.connect(MANY)
    callers.ask()
    # And some that never say a word.
    callers.connect(MANY)
    record.wait_for_handshakes(server__ok=2 * MANY)

    ours.withdraw()
    record.wait_for_closed(server__identity_withdrawn=2 * MANY)
    assert callers.are_told()
    said = "server connection closed: identity default was withdrawn at the signer"
    assert [line for line in record.logged() if line == said] == [said] * (2 * MANY)
    assert callers.refused()
    record.wait_for_handshakes(server__ok=2 * MANY, server__failed__identity_withdrawn=1)
    assert record.signatures() == {"asked": 2 * MANY, "made": 2 * MANY}
    assert ours.acknowledged == [1, 2]

    ours.publish()
    wait_for(lambda: not callers.refused(), "the identity is back")
    assert record.connections() == {"server.closed.identity_withdrawn": 2 * MANY}


def test_a_withdrawn_identity_loses_a_clients_idle_connections_on_every_worker_and_comes_back(
    lab: Lab, server: Envoy, application: Application, stack: ExitStack
) -> None:
    ours, text = lab.fake_signer(stack, CLIENT), bootstrap("client", HTTP1_TO_SERVER)
    client = stack.enter_context(
        lab.client(server.port("mtls"), text, concurrency=WORKERS, SIGNER_SOCKET=ours.socket)
    )
    wait_for_identity(client)
    covered(client, text)
    port, theirs, record = client.port("outbound"), Record(server), Record(client)
    answers = asyncio.run(ask_at_once(MANY, port, None, f"/together/{MANY}"))
    assert answers == [OK] * MANY
    assert count(client, "cluster.server.upstream_cx_active") == MANY

    ours.withdraw()
    record.wait_for_closed(client__identity_withdrawn=MANY)
    wait_for(lambda: count(client, "cluster.server.upstream_cx_active") == 0, "all are closed")
    assert get(port)[0] == 503
    record.wait_for_handshakes(client__ok=MANY, client__failed__identity_withdrawn=1)
    assert theirs.handshakes()["server.ok"] == MANY

    ours.publish()
    wait_for(lambda: get(port)[0] == 200, "the identity is back")


def test_without_a_waker_listener_a_clients_idle_connections_end_too(
    lab: Lab, server: Envoy, application: Application, stack: ExitStack
) -> None:
    ours, text = lab.fake_signer(stack, CLIENT), without_waker(bootstrap("client", HTTP1_TO_SERVER))
    client = stack.enter_context(
        lab.client(server.port("mtls"), text, concurrency=WORKERS, SIGNER_SOCKET=ours.socket)
    )
    wait_for_identity(client)
    answers = asyncio.run(ask_at_once(MANY, client.port("outbound"), None, f"/together/{MANY}"))
    assert answers == [OK] * MANY
    assert count(client, "cluster.server.upstream_cx_active") == MANY
    ours.withdraw()
    wait_for(lambda: count(client, "cluster.server.upstream_cx_active") == 0, "all are closed")


def test_http2_connections_and_the_requests_on_them_end_with_the_identity(
    lab: Lab, server: Envoy, application: Application, stack: ExitStack
) -> None:
    ours = lab.fake_signer(stack, CLIENT)
    client = stack.enter_context(lab.client(server.port("mtls"), SIGNER_SOCKET=ours.socket))
    wait_for_identity(client)
    port = client.port("outbound")

    async def ended() -> list[bytes]:
        # Answered when one more is there than comes.
        asking = asyncio.create_task(ask_at_once(2, port, None, "/together/3"))
        await asyncio.to_thread(wait_for, lambda: application.together == 2, "both requests")
        ours.withdraw()
        return await asking

    record = Record(client)
    assert asyncio.run(ended()) == [b"HTTP/1.1 503 Se"] * 2
    assert record.connections() == {"client.closed.identity_withdrawn": 1}
    # The application lets go of what it has.
    application.together = 3


def test_raw_connections_in_both_directions_end_with_the_identity(
    lab: Lab, stack: ExitStack
) -> None:
    theirs, ours = lab.fake_signer(stack, SERVER), lab.fake_signer(stack, CLIENT)
    upstream = stack.enter_context(TcpServer(BANNER))
    server = stack.enter_context(
        lab.tcp_server(upstream.port, ANY_OF_OURS, SIGNER_SOCKET=theirs.socket)
    )
    wait_for_identity(server)
    client = stack.enter_context(lab.tcp_client(server.port("mtls"), SIGNER_SOCKET=ours.socket))
    wait_for_identity(client)
    at_server, at_client = Record(server), Record(client)

    def through() -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", client.port("outbound")), 30)
        stack.enter_context(closing(plain))
        assert plain.recv(1024) == BANNER
        return plain

    one, two = through(), through()
    ours.withdraw()
    at_client.wait_for_closed(client__identity_withdrawn=2)
    assert (one.recv(1024), two.recv(1024)) == (b"", b"")
    ours.publish()
    wait_for(lambda: ours.acknowledged[-1] == 3, "it is back")

    one, two = through(), through()
    theirs.withdraw()
    at_server.wait_for_closed(server__identity_withdrawn=2)
    assert (one.recv(1024), two.recv(1024)) == (b"", b"")
    assert at_client.connections() == {"client.closed.identity_withdrawn": 2}


def test_a_connection_whose_peer_does_not_read_ends_too(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    ours = lab.fake_signer(stack, SERVER)
    server = stack.enter_context(lab.server(application.port, SIGNER_SOCKET=ours.socket))
    wait_for_identity(server)
    callers = Callers(stack, server.port("mtls"), lab.credentials(CLIENT))
    callers.connect(1)
    (deaf,) = callers.connections
    deaf.sendall(GET.replace(b"/reached", b"/bytes/50000000"))
    paused = "cluster.app.upstream_flow_control_paused_reading_total"
    wait_for(lambda: count(server, paused) > 0, "the answer is stuck")
    record = Record(server)
    ours.withdraw()
    record.wait_for_closed(server__identity_withdrawn=1)
    wait_for(lambda: count(server, "http.mtls.downstream_cx_active") == 0, "it is closed")


def test_a_revoked_key_takes_its_connections_with_it_and_leaves_the_next_ones_alone(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    ours = lab.fake_signer(stack, SERVER)
    server = stack.enter_context(
        lab.server(application.port, concurrency=WORKERS, SIGNER_SOCKET=ours.socket)
    )
    wait_for_identity(server)
    port, credentials, record = server.port("mtls"), lab.credentials(CLIENT), Record(server)
    old, new = Callers(stack, port, credentials), Callers(stack, port, credentials)
    old.connect(3)
    old.ask()
    ours.publish(key_id=b"next")
    wait_for(lambda: ours.acknowledged == [1, 2], "the next key")
    new.connect(3)
    new.ask()
    assert record.connections() == {}

    ours.publish(key_id=b"next", revoked=[KEY_ID])
    record.wait_for_closed(server__key_revoked=3)
    assert old.are_told()
    new.ask()
    assert not new.refused()


def test_a_denied_peer_loses_its_connections_and_makes_no_new_ones(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    ours = lab.fake_signer(stack, SERVER)
    text = bootstrap("server", ANY_MAY_CALL)
    server = stack.enter_context(
        lab.server(application.port, text, concurrency=WORKERS, SIGNER_SOCKET=ours.socket)
    )
    wait_for_identity(server)
    port, record = server.port("mtls"), Record(server)
    denied = Callers(stack, port, lab.credentials(OTHER))
    welcome = Callers(stack, port, lab.credentials(CLIENT))
    for callers in (denied, welcome):
        callers.connect(3)
        callers.ask()

    ours.publish(denied=OTHER_IS_DENIED)
    record.wait_for_closed(server__peer_denied=3)
    assert denied.are_told()
    welcome.ask()
    assert denied.refused()
    said = f"server handshake failed: peer {OTHER} is denied (list 7)"
    assert said in record.logged()
    # Neither a list of before nor none lifts it.
    ours.publish(denied=pb.DeniedPeers(sequence=6))
    wait_for(lambda: ours.acknowledged[-1] == 3, "the older list")
    ours.publish()
    wait_for(lambda: ours.acknowledged[-1] == 4, "no list")
    assert denied.refused()
    assert "deny list 6 is older than 7, which stays in force" in record.logged()
    ours.publish(denied=pb.DeniedPeers(sequence=8))
    wait_for(lambda: not denied.refused(), "the next list")
    welcome.ask()


def test_a_denied_server_is_left_and_not_called_again(
    lab: Lab, server: Envoy, application: Application, stack: ExitStack
) -> None:
    ours = lab.fake_signer(stack, CLIENT)
    client = stack.enter_context(lab.client(server.port("mtls"), SIGNER_SOCKET=ours.socket))
    wait_for_identity(client)
    record, port = Record(client), client.port("outbound")
    assert get(port)[0] == 200
    ours.publish(denied=pb.DeniedPeers(sequence=1, spiffe_ids=[SERVER]))
    record.wait_for_closed(client__peer_denied=1)
    assert get(port)[0] == 503
    record.wait_for_handshakes(client__ok=1, client__failed__peer_denied=1)
    # It was refused before it had our signature.
    assert record.signatures() == {"asked": 1, "made": 1}


def test_a_connection_ends_with_its_peers_certificate_where_that_is_configured(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    timeout = "              handshake_timeout_ms: 10000\n"
    text = bootstrap("server", {timeout: f"{timeout}              peer_expiry_slack_ms: 500\n"})
    server = stack.enter_context(lab.server(application.port, text))
    wait_for_identity(server)
    record, port = Record(server), server.port("mtls")
    expiring = lab.forge.certify(CLIENT, valid_for=timedelta(seconds=5))
    brief = Callers(stack, port, expiring)
    lasting = Callers(stack, port, lab.credentials(CLIENT))
    for callers in (brief, lasting):
        callers.connect(2)
        callers.ask()
    record.wait_for_closed(server__peer_expired=2)
    assert brief.are_told()
    assert datetime.now(UTC) > expiring.certificate.not_valid_after_utc
    lasting.ask()


def test_a_handshake_that_waits_for_its_signature_ends_with_the_identity(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    # It does not answer the first.
    ours = lab.fake_signer(stack, SERVER, together=2)
    server = stack.enter_context(lab.server(application.port, SIGNER_SOCKET=ours.socket))
    wait_for_identity(server)
    callers = Callers(stack, server.port("mtls"), lab.credentials(CLIENT))
    record = Record(server)

    async def ended() -> list[bytes]:
        asking = asyncio.create_task(ask_at_once(1, server.port("mtls"), callers.context))
        waits = lambda: record.signatures() == {"asked": 1}  # noqa: E731
        await asyncio.to_thread(wait_for, waits, "it waits for its signature")
        ours.withdraw()
        return await asking

    assert asyncio.run(ended()) == [b""]
    record.wait_for_handshakes(server__failed__identity_withdrawn=1)
