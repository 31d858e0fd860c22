"""Floods of peers that never say who they are: what they can cost, and whom."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import Sidecar
from sidecar.demo.traffic import get
from tests.e2e.application import Application
from tests.e2e.flood import Flood, answered, begin
from tests.e2e.lab import HTTP1_TO_SERVER, Lab, bootstrap
from tests.e2e.peers import call, call_unix, client_context
from tests.e2e.record import Record, gauge, wait_for_identity
from tests.e2e.shim import Shim

# A token of 100 signatures a second: one at a time, 10 ms each.
SLOW = "C_Sign delay 10"
# In the module's pools: so many signatures a role has under way at a link.
THREADS = 64
STOPPED = 900
# Another /24 of this machine.
ELSEWHERE = "127.0.1.1"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def limited(limits: str, text: str = "") -> str:
    old = "              max_handshakes: 1024\n"
    text = text or bootstrap("server")
    assert text.count(old) == 1
    return text.replace(old, f"{old}              {limits}\n")


def with_outbound(text: str) -> str:
    """The server's bootstrap, with the client's listener and its cluster."""
    changes = {**HTTP1_TO_SERVER, '"${RUN_DIR}/access.log"': '"${RUN_DIR}/outbound.log"'}
    client = bootstrap("client", changes)
    listener = re.search(r"  - name: outbound\n.*?\n\n", client, re.DOTALL)
    cluster = re.search(r"  - name: server\n(?=    connect_timeout).*", client, re.DOTALL)
    assert listener
    assert cluster
    return text.replace("  clusters:\n", f"{listener[0]}  clusters:\n{cluster[0]}\n")


@pytest.fixture
def slow(lab: Lab, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> Sidecar:
    """A sidecar on a slow token, for an Envoy that is called and calls."""
    directory = lab.short_path("shim")
    directory.mkdir()
    shim = Shim.build(directory)
    for name, value in shim.environment.items():
        monkeypatch.setenv(name, value)
    shim.rule(SLOW)
    return stack.enter_context(lab.sidecar(CLIENT, lab.store(), module=shim.module, threads=1))


def both_ways(lab: Lab, signer: Sidecar, app_port: int, server_port: int) -> dict[str, object]:
    """The values of `with_outbound`; each request has a handshake of its own."""
    return {
        **lab.server_values(app_port),
        **lab.client_values(server_port),
        "SIGNER_SOCKET": signer.socket,
        "REQUESTS_PER_CONNECTION": 1,
    }


def test_a_flood_on_a_listener_leaves_a_clusters_handshakes_their_share_of_a_slow_token(
    lab: Lab, server: Envoy, application: Application, stack: ExitStack, slow: Sidecar
) -> None:
    text = with_outbound(bootstrap("server"))
    values = both_ways(lab, slow, application.port, server.port("mtls"))
    flooded = stack.enter_context(lab.envoy(text, values))
    wait_for_identity(flooded)
    port, record = flooded.port("outbound"), Record(flooded)
    # Some stop after their ClientHello, some come again and again.
    for _ in range(STOPPED):
        stack.enter_context(begin(flooded.port("mtls")))
    with Flood(flooded.port("mtls"), 16) as flood:
        begun = flood.begun
        for _ in range(2):
            before = record.signatures().get("made", 0)
            assert get(port)[0] == 200
            # A listener has so many signatures under way before our turn comes. With room for
            # what is made while we look; behind all who wait it would be our turn after 900.
            assert record.signatures()["made"] - before < 6 * THREADS
            # And they still wait.
            assert gauge(flooded, "handshakes.in_flight") > 2 * THREADS
        wait_for(lambda: flood.begun > begun, "it is not over")
    ended = record.handshakes()
    assert ended["client.ok"] == 2
    assert [name for name in ended if name.startswith("client.failed")] == []


def test_a_listener_with_a_rate_leaves_the_rest_of_a_slow_token_to_clusters(
    lab: Lab, server: Envoy, application: Application, stack: ExitStack, slow: Sidecar
) -> None:
    requests, rate = 20, 20
    text = with_outbound(limited(f"handshake_rate: {{per_second: {rate}}}"))
    values = both_ways(lab, slow, application.port, server.port("mtls"))
    flooded = stack.enter_context(lab.envoy(text, values))
    wait_for_identity(flooded)
    record, start = Record(flooded), time.monotonic()
    with Flood(flooded.port("mtls"), 16):
        wait_for(lambda: record.handshakes().get("server.failed.rate_limited", 0) > 100, "a flood")
        assert [get(flooded.port("outbound"))[0] for _ in range(requests)] == [200] * requests
    asked, seconds = record.signatures()["asked"], time.monotonic() - start
    # Its burst is one second's worth.
    assert asked - requests <= rate + rate * seconds + 1
    assert record.handshakes()["client.ok"] == requests


def test_a_source_holds_no_more_handshakes_than_its_own(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    text = limited("source_max_handshakes: 3")
    server = stack.enter_context(lab.server(application.port, text))
    port, record = server.port("mtls"), Record(server)
    held = [stack.enter_context(begin(port)) for _ in range(10)]
    record.wait_for_handshakes(server__failed__source_too_many=7)
    assert sum(answered(connection) for connection in held) == 3
    assert record.signatures() == {"asked": 3, "made": 3}
    assert gauge(server, "handshakes.in_flight") == 3
    said = "too many handshakes in flight from one source (source_max_handshakes: 3)"
    assert any(said in line for line in record.logged())

    others = [stack.enter_context(begin(port, ELSEWHERE)) for _ in range(3)]
    assert [answered(connection) for connection in others] == [True] * 3
    for connection in held:
        connection.close()
    context = client_context(lab.credentials(CLIENT))
    wait_for(lambda: call(port, context).status == 200, "places are free again")


def test_a_source_that_begins_too_often_costs_no_more_signatures_than_its_rate(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    many, burst = 100, 5
    text = limited(f"source_rate: {{per_second: 1, burst: {burst}}}")
    server = stack.enter_context(lab.server(application.port, text))
    port, record, start = server.port("mtls"), Record(server), time.monotonic()
    held = [stack.enter_context(begin(port)) for _ in range(many)]
    admitted = sum(answered(connection) for connection in held)
    seconds = time.monotonic() - start
    # As many more as there were seconds, on a machine however slow.
    assert burst <= admitted <= burst + seconds + 1
    assert record.signatures() == {"asked": admitted, "made": admitted}
    record.wait_for_handshakes(server__failed__source_rate_limited=many - admitted)

    others = [stack.enter_context(begin(port, ELSEWHERE)) for _ in range(burst)]
    assert [answered(connection) for connection in others] == [True] * burst


def test_the_rate_of_a_listener_is_for_all_sources_together(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    text = limited("handshake_rate: {per_second: 1, burst: 4}")
    server = stack.enter_context(lab.server(application.port, text))
    port, record, start = server.port("mtls"), Record(server), time.monotonic()
    held = [
        stack.enter_context(begin(port, source))
        for source in ("127.0.0.1", ELSEWHERE, "127.0.2.1") * 10
    ]
    admitted = sum(answered(connection) for connection in held)
    assert 4 <= admitted <= 4 + time.monotonic() - start + 1
    record.wait_for_handshakes(server__failed__rate_limited=30 - admitted)
    assert record.signatures() == {"asked": admitted, "made": admitted}


def test_a_unix_socket_has_no_sources(lab: Lab, application: Application, stack: ExitStack) -> None:
    address = "{socket_address: {address: 127.0.0.1, port_value: ${LISTEN_PORT}}}"
    text = bootstrap("server", {address: '{pipe: {path: "${RUN_DIR}/mtls.sock"}}'})
    text = limited("source_rate: {per_second: 1, burst: 1}", text)
    server = stack.enter_context(lab.server(application.port, text))
    context = client_context(lab.credentials(CLIENT))
    for _ in range(5):
        assert call_unix(server.directory / "mtls.sock", context).status == 200


def test_limits_of_a_listener_are_refused_on_a_cluster(lab: Lab) -> None:
    old = "            max_handshakes: 1024\n"
    changes = {old: f"{old}            source_max_handshakes: 3\n"}
    with lab.unready_envoy(bootstrap("client", changes), lab.client_values(1)) as envoy:
        wait_for(lambda: not envoy.running, "it has given up")
        said = envoy.log.read_text(encoding="utf-8")
        assert "source_max_handshakes are for listeners only" in said
