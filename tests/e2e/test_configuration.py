"""A configuration that is wrong stops Envoy at its start; one that is risky says so."""

from __future__ import annotations

import pytest

from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER, TRUST_DOMAIN
from sidecar.demo.traffic import get
from sidecar.errors import StartFailed
from tests.e2e.application import Application
from tests.e2e.lab import HTTP1_TO_SERVER, OTHER, Lab, bootstrap, companion_peers
from tests.e2e.peers import TlsServer, call, client_context, server_context
from tests.e2e.record import Record, access_to, gauge
from tests.e2e.tcp import plaintext

PEERS = 'peers: {spiffe_ids: ["${PEER}"]}'
ANY_WORKLOAD = f"peers: {{trust_domain: {TRUST_DOMAIN}}}"
ANY_WORKLOAD_SAID = {PEERS: f"{ANY_WORKLOAD}\n            allow_any_workload: true"}
SIGNER = 'signer: "${SIGNER_SOCKET}"'
COMPANION = """      - name: meshkey_peer
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.dynamic_modules.v3.DynamicModuleNetworkFilter
          dynamic_module_config: {name: meshkey, do_not_close: true}
          filter_name: meshkey_peer
"""  # noqa: E501
# It names the peer before the companion does.
PLANTED = """      - name: planted
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config
          on_new_connection:
          - object_key: meshkey.peer
            factory_key: envoy.string
            format_string: {text_format_source: {inline_string: "${ALLOWED_PEER}"}}
"""

WRONG_CLUSTERS = {
    "an empty list of peers": (
        {PEERS: "peers: {spiffe_ids: []}"},
        "cluster rejected: peers.spiffe_ids is empty: name every SPIFFE ID that may answer",
    ),
    "a file of peers with a relative path": (
        {PEERS: "peers: {file: peers.json, entry: server}"},
        'cluster rejected: peers.file "peers.json" must be an absolute path',
    ),
    "an entry of a file of peers without a name": (
        {PEERS: 'peers: {file: /peers.json, entry: ""}'},
        "cluster rejected: peers.entry is empty: name a list of the file",
    ),
    "no peers": (
        {PEERS: "peers: {}"},
        "cluster rejected: peers: exactly one of spiffe_ids, trust_domain and file is required",
    ),
    "no matcher at all": ({PEERS: ""}, "cluster rejected: configuration: missing field `peers`"),
    "a peer that is no SPIFFE ID": (
        {PEERS: "peers: {spiffe_ids: [server.demo.mesh]}"},
        'cluster rejected: peers.spiffe_ids: "server.demo.mesh" is not a SPIFFE ID',
    ),
    "any workload without saying so": (
        {PEERS: ANY_WORKLOAD},
        "cluster rejected: peers.trust_domain on a cluster lets any workload impersonate the"
        " service: name peers.spiffe_ids, or set allow_any_workload: true to accept that",
    ),
    "any workload and a list": (
        {PEERS: f"{PEERS}\n            allow_any_workload: true"},
        "cluster rejected: allow_any_workload contradicts an exact list of peers",
    ),
    "an unknown key": (
        {PEERS: f"{PEERS}\n            verify_peers: false"},
        "cluster rejected: configuration: unknown field `verify_peers`",
    ),
    "no signer": ({SIGNER: ""}, "cluster rejected: configuration: missing field `signer`"),
    "a signer with a relative path": (
        {SIGNER: "signer: run/signer.sock"},
        'cluster rejected: signer "run/signer.sock": the path of a Unix socket must be absolute',
    ),
    "more time for a handshake than the sidecar keeps its key": (
        {"handshake_timeout_ms: 10000": "handshake_timeout_ms: 10001"},
        "cluster rejected: handshake_timeout_ms must be at most 10000: after that the sidecar"
        " may have destroyed the key that the handshake began with",
    ),
    "another transport socket's name": (
        {"transport_socket_name: meshkey": "transport_socket_name: meshkay"},
        'no transport socket "meshkay"; there is "meshkey"',
    ),
}
WRONG_LISTENERS = {
    "an empty list of peers": (
        {'peers: {trust_domain: "${TRUST_DOMAIN}"}': "peers: {spiffe_ids: []}"},
        "listener rejected: peers.spiffe_ids is empty: name every SPIFFE ID that may answer",
    ),
    "a cluster's setting": (
        {"alpn: [h2, http/1.1]": "allow_any_workload: true"},
        "listener rejected: sni and allow_any_workload are for clusters only",
    ),
    "an empty list of peers in the companion": (
        companion_peers("{spiffe_ids: []}"),
        "meshkey_peer: peers.spiffe_ids is empty: name every SPIFFE ID that may answer",
    ),
    "a file of peers without an entry in the companion": (
        companion_peers("{file: /peers.json}"),
        "meshkey_peer: peers.file and peers.entry belong together",
    ),
    "an unknown key in the companion": (
        companion_peers("{spiffe_id: x}"),
        "meshkey_peer: unknown field `spiffe_id`",
    ),
    "another filter's name": (
        {"filter_name: meshkey_peer": "filter_name: meshkey_beer"},
        'no network filter "meshkey_beer"; there are "meshkey_peer" and "meshkey_waker"',
    ),
}


def check_rejected(envoy: Envoy, because: str) -> None:
    with envoy:
        with pytest.raises(StartFailed, match=r"ended with 1 before it is live"):
            envoy.ready()
        said = [line for line in envoy.log.read_text().splitlines() if "meshkey: " in line]
    assert [because in line for line in said] == [True], said


@pytest.mark.parametrize("what", WRONG_CLUSTERS)
def test_envoy_does_not_start_with_a_cluster_that_has(lab: Lab, what: str) -> None:
    changes, because = WRONG_CLUSTERS[what]
    text = bootstrap("client", changes)
    check_rejected(lab.unready_envoy(text, lab.client_values(1)), because)


@pytest.mark.parametrize("what", WRONG_LISTENERS)
def test_envoy_does_not_start_with_a_listener_that_has(lab: Lab, what: str) -> None:
    changes, because = WRONG_LISTENERS[what]
    text = bootstrap("server", changes)
    check_rejected(lab.unready_envoy(text, lab.server_values(1)), because)


def test_any_workload_can_be_accepted_with_a_warning_and_a_gauge(lab: Lab) -> None:
    text = bootstrap("client", {**ANY_WORKLOAD_SAID, **HTTP1_TO_SERVER})
    context = server_context(lab.credentials(OTHER), lab.roots, "http/1.1")
    with TlsServer(context) as peer, lab.client(peer.port, text) as client:
        log = client.log.read_text(encoding="utf-8")
        (warning,) = [line for line in log.splitlines() if "allow_any_workload" in line]
        assert "[warning]" in warning
        assert warning.endswith(
            "meshkey: allow_any_workload: any workload of the trust domain can impersonate"
            " the service behind this cluster"
        )
        assert gauge(client, "clusters.allow_any_workload") == 1
        record = Record(client)
        assert get(client.port("outbound"))[0] == 200
        record.wait_for_handshakes(client__ok=1)


def test_any_workload_is_still_one_of_the_trust_domain(lab: Lab) -> None:
    text = bootstrap("client", ANY_WORKLOAD_SAID)
    context = server_context(lab.strangers.certify(SERVER), lab.roots, "h2")
    with TlsServer(context) as peer, lab.client(peer.port, text) as client:
        record = Record(client)
        assert get(client.port("outbound"))[0] == 503
        record.wait_for_handshakes(client__failed__peer_issuer=1)


def test_an_exact_list_of_peers_needs_no_warning(client: Envoy) -> None:
    assert gauge(client, "clusters.allow_any_workload") == 0
    assert "allow_any_workload" not in client.log.read_text(encoding="utf-8")


def test_a_listener_without_the_companion_closes_every_connection(
    lab: Lab, application: Application
) -> None:
    with lab.server(application.port, bootstrap("server", {COMPANION: ""})) as server:
        record = Record(server)
        answer = call(server.port("mtls"), client_context(lab.credentials(CLIENT)))
        assert answer.octets == b""
        record.wait_for_handshakes(server__failed__no_companion=1)
        assert (
            "server handshake failed: the listener lacks the meshkey_peer network filter, which"
            " must be its first"
        ) in record.logged()
        assert application.requests == []


def test_a_companion_without_the_transport_socket_lets_nobody_in(
    lab: Lab, application: Application
) -> None:
    # The same listener without TLS: nobody vouches for the peer.
    text = bootstrap("server")
    begin = text.index("      transport_socket:\n")
    end = text.index("      filters:\n", begin)
    nobody = lab.directory / "nobody"
    with lab.server(application.port, text[:begin] + text[end:], SIGNER_SOCKET=nobody) as server:
        record = Record(server)
        assert plaintext(server.port("mtls")) == b""
        said = "meshkey_peer closed a connection: it has no meshkey transport socket"
        assert said in record.logged()
        assert server.running
        assert application.requests == []


def test_what_a_filter_before_the_companion_says_about_the_peer_is_replaced(
    lab: Lab, application: Application
) -> None:
    text = bootstrap("server", {COMPANION: PLANTED + COMPANION})
    with lab.server(application.port, text) as server:
        answer = call(server.port("mtls"), client_context(lab.credentials(OTHER)))
        assert answer.status == 403
        assert access_to(server, "/reached")["peer"] == OTHER
        assert application.requests == []
