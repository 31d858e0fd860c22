"""No sidecar, no token: no new handshake, a clear reason, established connections go on."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import Sidecar
from sidecar.demo.traffic import get
from tests.e2e.application import Application
from tests.e2e.at_once import OK
from tests.e2e.lab import HTTP1_TO_SERVER, Lab, bootstrap
from tests.e2e.peers import Crowded, Http2Client, call, client_context, server_context
from tests.e2e.record import Record, access_to, gauge
from tests.e2e.tcp import TcpServer, plaintext

# So that a handshake that cannot succeed ends before the test does.
IMPATIENT = {"handshake_timeout_ms: 10000": "handshake_timeout_ms: 1000"}


class Breakable:
    """A sidecar with a store of its own that can be broken in one of two ways, and repaired."""

    def __init__(self, lab: Lab, stack: ExitStack, spiffe_id: str, how: str) -> None:
        self._lab, self._stack = lab, stack
        self._spiffe_id, self._how = spiffe_id, how
        self._store = lab.store()
        self._name = lab.short_path("sc").name
        self.sidecar = self._start()
        self.socket = self.sidecar.socket

    def _start(self) -> Sidecar:
        return self._stack.enter_context(
            self._lab.sidecar(self._spiffe_id, self._store, self._name)
        )

    def break_it(self) -> None:
        if self._how == "killed":
            self.sidecar.kill()
        else:
            self._store.tokens.rename(self._store.directory / "gone")

    def repair(self) -> None:
        if self._how == "killed":
            self.sidecar = self._start()
        else:
            (self._store.directory / "gone").rename(self._store.tokens)

    @property
    def reason(self) -> str:
        return {"killed": "no_signer", "token gone": "signer_timeout"}[self._how]

    @property
    def explained(self) -> str:
        return {
            "killed": f"no signer at {self.socket}: ",
            "token gone": "the signer put us off: ",
        }[self._how]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def failures(record: Record) -> list[str]:
    return [line for line in record.logged() if " handshake failed: " in line]


@pytest.mark.parametrize("how", ["killed", "token gone"])
def test_a_server_that_cannot_sign_keeps_its_connections_and_makes_no_new_ones(
    lab: Lab, application: Application, stack: ExitStack, how: str
) -> None:
    broken = Breakable(lab, stack, SERVER, how)
    server = stack.enter_context(
        lab.server(application.port, bootstrap("server", IMPATIENT), SIGNER_SOCKET=broken.socket)
    )
    port, pid = server.port("mtls"), server.pid
    context = client_context(lab.credentials(CLIENT))
    http1 = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    stack.enter_context(closing(http1))
    http2 = stack.enter_context(Http2Client(port, client_context(lab.credentials(CLIENT), "h2")))

    def both_answer() -> None:
        http1.request("GET", "/established")
        response = http1.getresponse()
        assert (response.status, len(response.read())) == (200, 64)
        assert http2.get("/established") == 200

    both_answer()
    established = http1.sock
    application.forget()
    record = Record(server)

    broken.break_it()
    if how == "killed":
        wait_for(lambda: gauge(server, "signers.connected") == 0, "the loss is noticed")
    for _ in range(2):
        assert call(port, context).octets == b""
    record.wait_for_handshakes(**{f"server__failed__{broken.reason}": 2})
    assert [broken.explained in line for line in failures(record)] == [True, True]
    assert plaintext(port)[:4] != b"HTTP"
    assert application.requests == []
    both_answer()

    broken.repair()
    wait_for(lambda: call(port, context).status == 200, "handshakes succeed again")
    both_answer()
    assert http1.sock is established
    assert (server.pid, server.running) == (pid, True)


@pytest.mark.parametrize("how", ["killed", "token gone"])
def test_a_client_that_cannot_sign_keeps_its_connections_and_makes_no_new_ones(
    lab: Lab, server: Envoy, application: Application, stack: ExitStack, how: str
) -> None:
    broken = Breakable(lab, stack, CLIENT, how)
    text = bootstrap("client", {**HTTP1_TO_SERVER, **IMPATIENT})
    client = stack.enter_context(lab.client(server.port("mtls"), text, SIGNER_SOCKET=broken.socket))
    port, pid = client.port("outbound"), client.pid
    pool = stack.enter_context(ThreadPoolExecutor(1))
    # It has its connection to the server, and stays on it until a second one comes.
    waiting = pool.submit(get, port, "/together/2")
    wait_for(lambda: application.together == 1, "the first request")
    record = Record(client)

    broken.break_it()
    if how == "killed":
        wait_for(lambda: gauge(client, "signers.connected") == 0, "the loss is noticed")
    assert get(port, "/unsigned")[0] == 503
    record.wait_for_handshakes(**{f"client__failed__{broken.reason}": 1})
    (failure,) = failures(record)
    assert broken.explained in failure
    reason = access_to(client, "/unsigned")["failure"].replace("_", " ")
    assert broken.explained.replace("_", " ") in reason
    assert [request.path for request in application.requests] == ["/together/2"]

    broken.repair()
    wait_for(lambda: get(port, "/signed")[0] == 200, "handshakes succeed again")
    assert get(port, "/together/2")[0] == 200
    assert waiting.result()[0] == 200
    assert (client.pid, client.running) == (pid, True)


def test_a_sidecar_that_is_frozen_is_noticed_and_found_again(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    sidecar = stack.enter_context(lab.sidecar(SERVER, lab.store()))
    server = stack.enter_context(lab.server(application.port, SIGNER_SOCKET=sidecar.socket))
    port, context = server.port("mtls"), client_context(lab.credentials(CLIENT))
    assert call(port, context).status == 200
    record = Record(server)

    stack.callback(os.kill, sidecar.pid, signal.SIGCONT)
    os.kill(sidecar.pid, signal.SIGSTOP)
    wait_for(lambda: gauge(server, "signers.connected") == 0, "the loss is noticed")
    for _ in range(2):
        assert call(port, context).octets == b""
    record.wait_for_handshakes(server__failed__no_signer=2)
    explained = f"no signer at {sidecar.socket}: the signer has ended or does not answer ("
    assert [explained in line for line in failures(record)] == [True, True]

    os.kill(sidecar.pid, signal.SIGCONT)
    wait_for(lambda: call(port, context).status == 200, "handshakes succeed again")


def test_a_link_on_which_nothing_is_said_stays(lab: Lab, server: Envoy) -> None:
    wait_for(lambda: gauge(server, "signers.connected") == 1, "the link")
    record = Record(server)
    # Several pings: a server that did not allow them would end the connection at the third.
    time.sleep(6)
    assert gauge(server, "signers.connected") == 1
    assert [line for line in record.logged() if "no signer" in line] == []
    context = client_context(lab.credentials(CLIENT))
    assert call(server.port("mtls"), context).octets


def test_a_server_that_starts_before_its_sidecar_waits_for_it(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    name = lab.short_path("sc").name
    signer = lab.directory / f"{name}.signer.sock"
    server = stack.enter_context(lab.server(application.port, SIGNER_SOCKET=signer))
    port, context = server.port("mtls"), client_context(lab.credentials(CLIENT))
    record = Record(server)
    assert call(port, context).octets == b""
    record.wait_for_handshakes(server__failed__no_signer=1)
    (failure,) = failures(record)
    assert failure == (
        f"server handshake failed: no signer at {signer}: No such file or directory (os error 2)"
    )
    assert plaintext(port)[:4] != b"HTTP"
    assert application.requests == []
    stack.enter_context(lab.sidecar(SERVER, lab.store(), name))
    wait_for(lambda: call(port, context).status == 200, "handshakes succeed")


def test_a_client_that_starts_before_its_sidecar_waits_for_it(
    lab: Lab, server: Envoy, application: Application, stack: ExitStack
) -> None:
    name = lab.short_path("sc").name
    signer = lab.directory / f"{name}.signer.sock"
    client = stack.enter_context(lab.client(server.port("mtls"), SIGNER_SOCKET=signer))
    record = Record(client)
    assert get(client.port("outbound"))[0] == 503
    record.wait_for_handshakes(client__failed__no_signer=1)
    assert failures(record) == [
        f"client handshake failed: no signer at {signer}: No such file or directory (os error 2)"
    ]
    assert application.requests == []
    stack.enter_context(lab.sidecar(CLIENT, lab.store(), name))
    wait_for(lambda: get(client.port("outbound"))[0] == 200, "handshakes succeed")


def test_a_client_without_a_signer_sends_not_one_octet(lab: Lab) -> None:
    with (
        TcpServer() as upstream,
        lab.client(upstream.port, SIGNER_SOCKET=lab.directory / "nobody") as client,
    ):
        assert get(client.port("outbound"))[0] == 503
        assert upstream.accepted == 1
        assert upstream.octets == b""


def test_connections_beyond_the_limit_cost_no_signature(lab: Lab, application: Application) -> None:
    bucket = "token_bucket: {max_tokens: 5000, tokens_per_fill: 5000, fill_interval: 1s}"
    small = "token_bucket: {max_tokens: 2, tokens_per_fill: 2, fill_interval: 3600s}"
    with lab.server(application.port, bootstrap("server", {bucket: small})) as server:
        record, context = Record(server), client_context(lab.credentials(CLIENT))
        answers = [call(server.port("mtls"), context) for _ in range(4)]
        assert [answer.octets[:15] for answer in answers] == [OK, OK, b"", b""]
        assert record.handshakes() == {"server.ok": 2}
        assert record.signatures() == {"asked": 2, "made": 2}
        limited = "listener_local_ratelimit.mtls.rate_limited"
        assert server.stats(f"^{limited}$")[limited] == 2


def test_the_time_of_a_handshake_begins_with_the_connection(lab: Lab) -> None:
    changes = {**HTTP1_TO_SERVER, "handshake_timeout_ms: 10000": "handshake_timeout_ms: 2000"}
    context = server_context(lab.credentials(SERVER), lab.roots, "http/1.1")
    with Crowded(context) as peer, lab.client(peer.port, bootstrap("client", changes)) as client:
        record = Record(client)
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(get, client.port("outbound"))
            connecting = "cluster.server.upstream_cx_total"
            wait_for(lambda: client.stats(f"^{connecting}$")[connecting] == 1, "the attempt")
            # The kernel repeats the attempt until there is room for it.
            time.sleep(2.1)
            assert record.handshakes() == {}
            peer.make_room()
            assert asking.result()[0] == 200
        record.wait_for_handshakes(client__ok=1)


def test_a_sidecar_that_is_killed_leaves_nothing_that_stops_the_next(
    lab: Lab, stack: ExitStack
) -> None:
    broken = Breakable(lab, stack, SERVER, "killed")
    for _ in range(3):
        broken.break_it()
        broken.repair()
    assert broken.sidecar.status().identities[0].generation == 1
