"""Stock Envoys that get from SDS whom they trust, and what they do with our certificate."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import structlog
from structlog.testing import capture_logs

from sidecar.demo.envoy import Envoy
from sidecar.demo.processes import wait_for
from sidecar.sds.names import RootValidator
from tests.e2e.forge import Credentials, Forge
from tests.e2e.lab import Lab, bootstrap
from tests.e2e.load import Load
from tests.e2e.peers import call, client_context
from tests.e2e.secrets_server import SecretsServer
from tests.fixtures.enrolment import TRUST_DOMAIN
from tests.fixtures.waiting import BOUND_S

CLIENT = f"spiffe://{TRUST_DOMAIN}/ns/test/sa/client"
ROTATIONS = 4
REQUESTS = 300
BOTH = ["GRPC", "DELTA_GRPC"]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    structlog.reset_defaults()
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def forges(lab: Lab) -> Callable[[], Forge]:
    """Makes CAs."""

    def make() -> Forge:
        directory = lab.short_path("forge")
        directory.mkdir()
        return Forge(directory, directory.name)

    return make


def secrets_server(
    lab: Lab, stack: ExitStack, validator: RootValidator = RootValidator.TRUSTED_CA
) -> SecretsServer:
    return stack.enter_context(SecretsServer(lab.short_path("sds"), validator))


def trust(server: SecretsServer, *forges: Forge) -> None:
    """The roots of the server's identity from its next renewal on."""
    server.roots.write_bytes(server.own_root + b"".join(forge.root_pem for forge in forges))


def values(server: SecretsServer, own: Credentials, **more: object) -> dict[str, object]:
    return {
        "SDS_SOCKET": server.socket,
        "PEER": CLIENT,
        "CHAIN": own.chain,
        "KEY": own.key,
        **more,
    }


def status(port: int, credentials: Credentials) -> int:
    return call(port, client_context(credentials)).status


def number(envoy: Envoy, secret: str, name: str) -> int:
    """One of Envoy's numbers about a secret."""
    return envoy.stats(f"^sds[.]{secret}[.]{name}$").get(f"sds.{secret}.{name}", 0)


def not_ready(envoy: Envoy) -> int:
    """Connections that Envoy has closed because a secret was not there."""
    return sum(envoy.stats("downstream_context_secrets_not_ready").values())


@pytest.mark.parametrize("api", BOTH)
@pytest.mark.parametrize(
    ("roots", "validator"),
    [
        ("ROOTCA", RootValidator.TRUSTED_CA),
        ("ROOTCA", RootValidator.SPIFFE),
        ("ALL", RootValidator.TRUSTED_CA),
        (f"spiffe://{TRUST_DOMAIN}", RootValidator.TRUSTED_CA),
    ],
    ids=["plain", "spiffe", "all", "domain"],
)
def test_roots_rotate_under_load_and_no_request_is_lost(
    lab: Lab,
    forges: Callable[[], Forge],
    stack: ExitStack,
    api: str,
    roots: str,
    validator: RootValidator,
) -> None:
    server = secrets_server(lab, stack, validator)
    current = forges()
    first_peer = current.certify(CLIENT)
    trust(server, current)
    server.renew()
    server.start()
    envoy = stack.enter_context(
        lab.envoy(bootstrap("sds"), values(server, first_peer, API=api, ROOTS=roots), concurrency=2)
    )
    port = envoy.port("mtls")
    with Load(port, client_context(first_peer)) as load:
        for _ in range(ROTATIONS):
            load.wait_for_more(REQUESTS // ROTATIONS // 2)
            new = forges()
            trust(server, current, new)
            # Returns when Envoy has acknowledged the new roots, and there is a new certificate.
            server.renew()
            load.context = client_context(new.certify(CLIENT))
            load.wait_for_more(REQUESTS // ROTATIONS // 2)
            trust(server, new)
            server.renew()
            current = new
        load.wait_for_more(1)
    assert load.lost == []
    assert load.answered >= REQUESTS
    assert server.counts.acks > ROTATIONS
    assert server.counts.nacks == 0
    # What was trusted at first is not any more, and the checks are still made.
    server.outlive_certificates()
    server.renew()
    generation = server.identity.store.generation
    wait_for(
        lambda: all(s.acked_generation == generation for s in server.subscriptions),
        "the last roots",
    )
    assert status(port, first_peer) == 0
    assert status(port, current.certify(CLIENT)) == 200
    assert status(port, current.certify(f"spiffe://{TRUST_DOMAIN}/ns/test/sa/other")) == 0


@pytest.mark.parametrize("api", BOTH)
def test_there_is_no_leaf_under_a_new_root_before_envoy_has_the_root(
    lab: Lab, forges: Callable[[], Forge], stack: ExitStack, api: str
) -> None:
    server = secrets_server(lab, stack)
    old, new = forges(), forges()
    trust(server, old)
    server.renew()
    server.start()
    own = old.certify(CLIENT)
    envoy = stack.enter_context(
        lab.envoy(bootstrap("sds"), values(server, own, API=api, ROOTS="ROOTCA"))
    )
    wait_for(lambda: server.counts.acks == 1, "the roots")
    os.kill(envoy.pid, signal.SIGSTOP)
    trust(server, old, new)
    renewal = server.begin_renewal()
    # The same work, five times over, for an identity that nobody follows.
    for _ in range(5):
        server.renew_gateway()
    assert not renewal.done()
    assert server.identity.store.generation == 2
    os.kill(envoy.pid, signal.SIGCONT)
    assert renewal.result(BOUND_S) == 3
    assert server.counts.acks == 2
    assert status(envoy.port("mtls"), new.certify(CLIENT)) == 200


@pytest.mark.parametrize("api", BOTH)
def test_the_spiffe_validator_keeps_trust_domains_apart(
    lab: Lab, forges: Callable[[], Forge], stack: ExitStack, api: str
) -> None:
    server = secrets_server(lab, stack)
    ours = forges()
    trust(server, ours)
    server.renew()
    server.start()
    own = ours.certify(CLIENT)
    other = "spiffe://other.mesh/ns/test/sa/client"
    envoy = stack.enter_context(
        lab.envoy(bootstrap("sds"), values(server, own, API=api, ROOTS="ALL", PEER=other))
    )
    assert status(envoy.port("mtls"), ours.certify(other)) == 0
    theirs = forges()
    server.federate("other.mesh", theirs.root_pem)
    wait_for(lambda: server.counts.acks == 2, "the other trust domain")
    assert status(envoy.port("mtls"), theirs.certify(other)) == 200
    assert status(envoy.port("mtls"), ours.certify(other)) == 0


@pytest.mark.parametrize("api", BOTH)
def test_a_stock_envoy_refuses_our_certificate_and_serves_nobody(
    lab: Lab, forges: Callable[[], Forge], stack: ExitStack, api: str
) -> None:
    server = secrets_server(lab, stack)
    forge = forges()
    trust(server, forge)
    server.renew()
    server.start()
    own = forge.certify(CLIENT)
    text = bootstrap("sds", {CERTIFICATE_IN_FILE: CERTIFICATE_FROM_SDS})
    with capture_logs() as logged:
        envoy = stack.enter_context(lab.envoy(text, values(server, own, API=api, ROOTS="ROOTCA")))
        wait_for(lambda: number(envoy, "default", "update_rejected") > 0, "a refusal")
        assert status(envoy.port("mtls"), own) == 0
        # Each new one anew.
        server.renew()
        wait_for(lambda: number(envoy, "default", "update_rejected") > 1, "another refusal")
        wait_for(lambda: server.counts.nacks >= 2, "its reasons")
    assert number(envoy, "default", "update_success") == 0
    assert envoy.admin("/ready").strip() == "LIVE"
    before = not_ready(envoy)
    assert status(envoy.port("mtls"), own) == 0
    assert not_ready(envoy) == before + 1
    assert number(envoy, "ROOTCA", "update_success") > 0
    refusals = [entry for entry in logged if entry["event"] == "secret refused by subscriber"]
    assert {entry["secret"] for entry in refusals} == {"default"}
    assert "Failed to load private key provider: meshkey" in refusals[0]["error"]
    assert refusals[0]["node"] == "stock~envoy"
    by_name = {s.resource: s for s in server.subscriptions}
    assert "private key provider" in by_name["default"].error
    assert by_name["default"].acked_generation == 0
    assert not by_name["ROOTCA"].error


CERTIFICATE_IN_FILE = """            tls_certificates:
            - certificate_chain: {filename: "${CHAIN}"}
              private_key: {filename: "${KEY}"}
"""
CERTIFICATE_FROM_SDS = """            tls_certificate_sds_secret_configs:
            - name: default
              sds_config:
                resource_api_version: V3
                initial_fetch_timeout: 0s
                api_config_source:
                  api_type: ${API}
                  transport_api_version: V3
                  grpc_services: [{envoy_grpc: {cluster_name: meshkey-sds}}]
"""


@pytest.mark.parametrize("api", BOTH)
def test_envoy_waits_for_the_socket_and_for_the_certificate(
    lab: Lab, forges: Callable[[], Forge], stack: ExitStack, api: str
) -> None:
    server = secrets_server(lab, stack)
    forge = forges()
    trust(server, forge)
    own = forge.certify(CLIENT)
    envoy = stack.enter_context(
        lab.unready_envoy(bootstrap("sds"), values(server, own, API=api, ROOTS="ROOTCA"))
    )
    wait_for((envoy.directory / "admin.sock").exists, "Envoy is there")
    wait_for(lambda: number(envoy, "ROOTCA", "update_failure") > 0, "an attempt")
    server.start()
    wait_for(lambda: bool(server.subscriptions), "a stream")
    assert envoy.admin("/ready").strip() != "LIVE"
    server.renew()
    envoy.ready()
    assert status(envoy.port("mtls"), own) == 200
    assert number(envoy, "ROOTCA", "update_rejected") == 0


@pytest.mark.parametrize("api", BOTH)
def test_a_restart_of_ours_goes_unnoticed(
    lab: Lab, forges: Callable[[], Forge], stack: ExitStack, api: str
) -> None:
    server = secrets_server(lab, stack)
    old, new = forges(), forges()
    trust(server, old)
    server.renew()
    server.start()
    own = old.certify(CLIENT)
    envoy = stack.enter_context(
        lab.envoy(bootstrap("sds"), values(server, own, API=api, ROOTS="ROOTCA"))
    )
    port = envoy.port("mtls")
    wait_for(lambda: server.counts.acks == 1, "the roots")
    with Load(port, client_context(own)) as load:
        server.stop()
        load.wait_for_more(20)
        # Back with what Envoy has, which counts as acknowledged again.
        server.start()
        generation = server.identity.store.generation
        wait_for(
            lambda: [s.acked_generation for s in server.subscriptions] == [generation], "it is back"
        )
        # What is sent once more as a whole is no update for Envoy; a delta has nothing.
        assert server.counts.acks == (1 if api == "GRPC" else 0)
        load.wait_for_more(20)
        # Back with something newer.
        server.stop()
        trust(server, old, new)
        server.renew()
        server.start()
        wait_for(lambda: server.counts.acks > 0, "the new roots")
        load.context = client_context(new.certify(CLIENT))
        load.wait_for_more(20)
    assert load.lost == []
    assert number(envoy, "ROOTCA", "update_rejected") == 0


@pytest.mark.parametrize("api", BOTH)
def test_an_envoy_goes_on_with_the_roots_that_it_has_while_their_identity_is_deprovisioned(
    lab: Lab, forges: Callable[[], Forge], stack: ExitStack, api: str
) -> None:
    server = secrets_server(lab, stack)
    old, new = forges(), forges()
    trust(server, old)
    server.renew()
    server.start()
    own = old.certify(CLIENT)
    envoy = stack.enter_context(
        lab.envoy(bootstrap("sds"), values(server, own, API=api, ROOTS="ROOTCA"))
    )
    port = envoy.port("mtls")
    wait_for(lambda: server.counts.acks == 1, "the roots")
    with Load(port, client_context(own)) as load:
        server.deprovision()
        wait_for(lambda: server.counts.acks == 2, "Envoy has heard of it")
        load.wait_for_more(20)
        trust(server, old, new)
        server.reinstate()
        server.renew()
        wait_for(lambda: server.counts.acks == 3, "the new roots")
        load.context = client_context(new.certify(CLIENT))
        load.wait_for_more(20)
    assert load.lost == []
    assert server.counts.nacks == 0


@pytest.mark.parametrize("api", BOTH)
def test_an_unknown_name_serves_nobody_and_harms_nobody(
    lab: Lab, forges: Callable[[], Forge], stack: ExitStack, api: str
) -> None:
    server = secrets_server(lab, stack)
    forge = forges()
    trust(server, forge)
    server.renew()
    server.start()
    own = forge.certify(CLIENT)
    good = stack.enter_context(
        lab.envoy(bootstrap("sds"), values(server, own, API=api, ROOTS="ROOTCA"))
    )
    lost = stack.enter_context(
        lab.unready_envoy(bootstrap("sds"), values(server, own, API=api, ROOTS="nonsense"))
    )
    wait_for((lost.directory / "admin.sock").exists, "Envoy is there")
    if api == "GRPC":
        wait_for(lambda: "no secret 'nonsense'; ask for default, ROOTCA" in lost.tail(), "why")
    else:
        lost.ready()
        assert status(lost.port("mtls"), own) == 0
    assert status(good.port("mtls"), own) == 200


def test_the_names_of_istios_proxies(
    lab: Lab, forges: Callable[[], Forge], stack: ExitStack
) -> None:
    server = secrets_server(lab, stack)
    forge, other = forges(), forges()
    trust(server, forge)
    server.root_file.write_bytes(other.root_pem)
    server.renew()
    server.start()
    own = forge.certify(CLIENT)
    envoy = stack.enter_context(
        lab.envoy(bootstrap("sds-istio"), values(server, own, ROOT_FILE=server.root_file))
    )
    wait_for(lambda: number(envoy, "default", "update_rejected") > 0, "a refusal")
    rootca, file_root = envoy.port("rootca"), envoy.port("file-root")
    assert status(envoy.port("inbound"), own) == 0
    assert status(rootca, own) == 200
    assert status(rootca, forge.certify(f"spiffe://{TRUST_DOMAIN}/ns/test/sa/other")) == 0
    assert status(file_root, other.certify(CLIENT)) == 200
    assert status(file_root, own) == 0
    # The file is looked at again.
    new = server.root_file.with_suffix(".new")
    new.write_bytes(forge.root_pem)
    new.rename(server.root_file)
    wait_for(lambda: status(file_root, own) == 200, "the new file")
    assert status(file_root, other.certify(CLIENT)) == 0


def test_a_gateway_asks_for_its_clients_roots_by_name(
    lab: Lab, forges: Callable[[], Forge], stack: ExitStack
) -> None:
    server = secrets_server(lab, stack)
    forge = forges()
    trust(server, forge)
    server.renew_gateway()
    server.start()
    own = forge.certify(CLIENT)
    envoy = stack.enter_context(
        lab.envoy(bootstrap("sds"), values(server, own, API="GRPC", ROOTS="sds://edge-cacert"))
    )
    assert status(envoy.port("mtls"), own) == 200
    assert status(envoy.port("mtls"), forges().certify(CLIENT)) == 0
