"""One worker and a signer that takes its time: handshakes wait side by side, nobody else does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER, TRUST_DOMAIN
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import Sidecar
from sidecar.demo.traffic import get
from tests.e2e.application import Application
from tests.e2e.at_once import OK, ask, ask_at_once
from tests.e2e.fake_signer import FakeSigner
from tests.e2e.lab import HTTP1_TO_SERVER, Lab, bootstrap, without_waker
from tests.e2e.peers import call_unix, client_context
from tests.e2e.record import Record, gauge, wait_for_identity
from tests.e2e.shim import Shim
from tests.fixtures.waiting import soon

MANY = 50
# On the worker that the handshakes are on: there is only one.
PLAIN_LISTENER = """  - name: plain
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: plain
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: plain
              domains: ["*"]
              routes:
              - match: {prefix: /}
                direct_response: {status: 200, body: {inline_string: plain}}

"""  # noqa: E501


@pytest.fixture(params=["wf", "lowat"])
def waker(request: pytest.FixtureRequest) -> str:
    """How finished handshakes wake their worker."""
    return str(request.param)


def woken_by(waker: str, text: str) -> str:
    return without_waker(text) if waker == "lowat" else text


def with_plain_listener(text: str) -> str:
    clusters = "  clusters:\n"
    assert text.count(clusters) == 1
    return text.replace(clusters, PLAIN_LISTENER + clusters)


@pytest.fixture(scope="module")
def shim(lab: Lab) -> Shim:
    return Shim.build(lab.directory)


@pytest.fixture
def slow(lab: Lab, shim: Shim, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sidecar]:
    """The server's sidecar, on a token that is as slow as the shim's rules say."""
    for name, value in shim.environment.items():
        monkeypatch.setenv(name, value)
    shim.rule()
    with lab.sidecar(SERVER, lab.store(), module=shim.module, threads=64) as sidecar:
        yield sidecar
        shim.rule()


async def test_fifty_handshakes_wait_for_the_token_while_plaintext_flows(
    lab: Lab, application: Application, shim: Shim, slow: Sidecar, waker: str
) -> None:
    text = with_plain_listener(woken_by(waker, bootstrap("server")))
    with lab.server(application.port, text, SIGNER_SOCKET=slow.socket) as server:
        wait_for_identity(server)
        covered = 1 if waker == "wf" else 0
        wait_for(lambda: gauge(server, "waker.workers") == covered, "the waker")
        context = client_context(lab.credentials(CLIENT), "http/1.1")
        plain, record = server.port("plain"), Record(server)
        before = slow.status().signed
        # As long as it takes, so that what is seen meanwhile does not depend on speed.
        shim.rule("C_Sign hang")
        asking = asyncio.create_task(ask_at_once(MANY, server.port("mtls"), context))

        await soon(lambda: record.signatures().get("asked") == MANY, "all wait")
        assert gauge(server, "handshakes.in_flight") == MANY
        for _ in range(MANY):
            assert get(plain) == (200, "plain")
        assert record.signatures() == {"asked": MANY}
        assert record.handshakes() == {}
        assert slow.status().signed == before
        shim.rule("C_Sign delay 50")
        assert await asking == [OK] * MANY
        assert record.handshakes() == {"server.ok": MANY}
        assert gauge(server, "handshakes.in_flight_max") == MANY
        assert gauge(server, "handshakes.in_flight") == 0
        assert slow.status().signed == before + MANY
        assert gauge(server, "waker.workers") == covered


def test_a_token_that_takes_50_ms_signs_for_many_handshakes_at_once(
    lab: Lab, application: Application, shim: Shim, slow: Sidecar, waker: str
) -> None:
    text = woken_by(waker, bootstrap("server"))
    with lab.server(application.port, text, SIGNER_SOCKET=slow.socket) as server:
        wait_for_identity(server)
        context = client_context(lab.credentials(CLIENT), "http/1.1")
        shim.rule("C_Sign delay 50")
        record = Record(server)
        answers = asyncio.run(ask_at_once(MANY, server.port("mtls"), context))
        assert answers == [OK] * MANY
        assert record.handshakes() == {"server.ok": MANY}
        # One after the other this would be 1.
        assert shim.most_at_once() > MANY // 10


@pytest.mark.parametrize("role", ["server", "client"])
def test_the_signer_sees_fifty_requests_at_once(
    lab: Lab, application: Application, waker: str, role: str
) -> None:
    # It answers nobody before all fifty have asked.
    identity = lab.forge.certify(SERVER if role == "server" else CLIENT)
    with FakeSigner(
        lab.short_path("sign"),
        [identity.certificate],
        identity.private_key,
        {TRUST_DOMAIN: [lab.forge.root_der, lab.local_root_der]},
        spiffe_id=SERVER if role == "server" else CLIENT,
        together=MANY,
    ) as signer:
        if role == "server":
            text = woken_by(waker, bootstrap("server"))
            with lab.server(application.port, text, SIGNER_SOCKET=signer.socket) as envoy:
                context = client_context(lab.credentials(CLIENT), "http/1.1")
                answers = asyncio.run(ask_at_once(MANY, envoy.port("mtls"), context))
        else:
            text = woken_by(waker, bootstrap("client", HTTP1_TO_SERVER))
            with (
                lab.server(application.port) as server,
                lab.client(server.port("mtls"), text, SIGNER_SOCKET=signer.socket) as envoy,
            ):
                # Nobody gets his answer before fifty have asked, so each has a connection.
                answers = asyncio.run(ask_at_once(MANY, envoy.port("outbound"), None))
        assert answers == [OK] * MANY
        assert signer.most_waiting == MANY


def test_more_handshakes_than_allowed_are_refused_at_once(
    lab: Lab, application: Application, shim: Shim, slow: Sidecar
) -> None:
    text = bootstrap("server", {"max_handshakes: 1024": "max_handshakes: 5"})
    with lab.server(application.port, text, SIGNER_SOCKET=slow.socket) as server:
        wait_for_identity(server)
        context = client_context(lab.credentials(CLIENT), "http/1.1")
        record = Record(server)
        shim.rule("C_Sign hang")

        async def overload() -> list[bytes]:
            asking = [asyncio.create_task(ask(server.port("mtls"), context)) for _ in range(MANY)]
            await soon(lambda: sum(task.done() for task in asking) == MANY - 5, "refusals")
            shim.rule()
            return list(await asyncio.gather(*asking))

        answers = asyncio.run(overload())
        assert answers.count(OK) == 5
        wait_for(lambda: sum(record.handshakes().values()) == MANY, "all have ended")
        assert record.handshakes() == {"server.ok": 5, "server.failed.too_many": MANY - 5}
        assert gauge(server, "handshakes.in_flight") == 0
        assert any("(max_handshakes: 5)" in line for line in record.logged())


def test_a_handshake_that_nothing_can_wake_waits_for_the_waker(
    lab: Lab, application: Application
) -> None:
    changes = {
        "{socket_address: {address: 127.0.0.1, port_value: ${LISTEN_PORT}}}": (
            '{pipe: {path: "${RUN_DIR}/mtls.sock"}}'
        ),
        # What the module dials to become the waker; the listener is elsewhere.
        'value: {socket: "${RUN_DIR}/waker.sock"}': 'value: {socket: "${RUN_DIR}/late.sock"}',
    }
    with (
        lab.server(application.port, bootstrap("server", changes)) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        record = Record(server)
        context = client_context(lab.credentials(CLIENT))
        asking = pool.submit(call_unix, server.directory / "mtls.sock", context)
        wait_for(lambda: record.signatures() == {"asked": 1, "made": 1}, "the signature")
        said = "handshakes on connections that are not TCP wait for a meshkey_waker listener"
        wait_for(lambda: any(said in line for line in record.logged()), "the explanation")
        assert record.handshakes() == {}
        (server.directory / "late.sock").symlink_to("waker.sock")
        assert asking.result().status == 200
        assert record.handshakes() == {"server.ok": 1}


def test_handshakes_that_envoy_has_given_up_count_while_the_signer_has_them(
    lab: Lab, server: Envoy
) -> None:
    changes = {
        **HTTP1_TO_SERVER,
        "connect_timeout: 15s": "connect_timeout: 0.5s",
        "max_handshakes: 1024": "max_handshakes: 2",
    }
    identity = lab.forge.certify(CLIENT)
    with (
        FakeSigner(
            lab.short_path("sign"),
            [identity.certificate],
            identity.private_key,
            {TRUST_DOMAIN: [lab.forge.root_der, lab.local_root_der]},
            spiffe_id=CLIENT,
            together=MANY,
        ) as signer,
        lab.client(
            server.port("mtls"), bootstrap("client", changes), SIGNER_SOCKET=signer.socket
        ) as client,
    ):
        record = Record(client)
        for _ in range(2):
            assert get(client.port("outbound"))[0] == 503
        assert record.handshakes() == {}
        assert gauge(client, "handshakes.in_flight") == 2
        assert get(client.port("outbound"))[0] == 503
        record.wait_for_handshakes(client__failed__too_many=1)
        assert signer.most_waiting == 2
