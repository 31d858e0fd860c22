"""ALPN and SNI as Istio's sidecars use them, between the module and Envoy's own TLS."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import pytest

from sidecar.demo.credentials import FileCredentials
from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.traffic import get
from tests.e2e.application import Application
from tests.e2e.lab import Lab, bootstrap
from tests.e2e.peers import GET
from tests.e2e.programs import SServer, s_client
from tests.e2e.record import Record, access_to

SNI = "outbound_.8080_._.server.demo.svc.cluster.local"
# What a sidecar offers for HTTP/1.1 and for HTTP/2; none of it is a listener's protocol.
OFFERED = {"1.1": "[istio-http/1.1, istio]", "2": "[istio-h2, istio]"}
OFFERED_BY_US = "[istio-http/1.1, istio-h2, istio]"
HTTP2 = "{http2_protocol_options: {}}"
HTTP1 = "{http_protocol_options: {}}"
PROTOCOL = {"1.1": HTTP1, "2": HTTP2}
LISTENER_FILTERS = "    listener_filters:\n"
INSPECTED = f"""{LISTENER_FILTERS}    - name: envoy.filters.listener.tls_inspector
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector
"""
OURS = "    - transport_socket_connect_timeout: 15s # the module's own limit comes first\n"
STOCK = "    - transport_socket:\n        name: envoy.transport_sockets.tls\n"


def stock_client(credentials: FileCredentials, roots: object, version: str) -> str:
    """client.yaml with Envoy's own TLS, as a sidecar is configured for its outbound clusters."""
    text = bootstrap("client", {HTTP2: PROTOCOL[version]})
    begin = text.index("    transport_socket:\n")
    end = text.index("    load_assignment:\n", begin)
    return f"""{text[:begin]}    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: {SNI}
        common_tls_context:
          tls_params: {{tls_maximum_protocol_version: TLSv1_3}}
          alpn_protocols: {OFFERED[version]}
          tls_certificates:
          - certificate_chain: {{filename: "{credentials.chain}"}}
            private_key: {{filename: "{credentials.key}"}}
          validation_context:
            trusted_ca: {{filename: "{roots}"}}
            match_typed_subject_alt_names:
            - san_type: URI
              matcher: {{exact: "{SERVER}"}}
{text[end:]}"""


def our_client(version: str = "2", sni: str = SNI) -> str:
    """client.yaml as it is configured for a sidecar's outbound cluster."""
    alpn = f"alpn: {OFFERED_BY_US}\n            sni: {sni}"
    return bootstrap("client", {HTTP2: PROTOCOL[version], "alpn: [h2]": alpn})


def matching(listener: str, chain: str, match: str) -> str:
    """The text of a bootstrap whose chain takes only connections that match."""
    text = bootstrap(listener, {chain: f"    - filter_chain_match: {match}\n      {chain[6:]}"})
    if LISTENER_FILTERS in text:
        return text.replace(LISTENER_FILTERS, INSPECTED)
    return text.replace("    filter_chains:\n", f"{INSPECTED}    filter_chains:\n", 1)


def stock_values(lab: Lab, app_port: int) -> Mapping[str, object]:
    """What server-native.yaml asks for."""
    own = lab.credentials(SERVER)
    values = {"PEER": CLIENT, "CHAIN": own.chain, "KEY": own.key}
    return {**values, "ROOTS": lab.roots, "APP_PORT": app_port}


def goes_through(client: Envoy, application: Application) -> None:
    status, _ = get(client.port("outbound"))
    assert status == 200, client.access_log()
    assert len(application.requests) == 1


@pytest.mark.parametrize(
    ("offer", "agreed"),
    [
        ("istio-http/1.1,istio", "No ALPN negotiated"),
        ("istio,http/1.1", "ALPN protocol: http/1.1"),
    ],
)
@pytest.mark.parametrize("groups", ["X25519", "P-521:P-256"], ids=["one hello", "two hellos"])
def test_a_listener_goes_on_without_alpn_when_it_is_offered_nothing_of_its_own(
    lab: Lab, server: Envoy, application: Application, offer: str, agreed: str, groups: str
) -> None:
    said = s_client(
        server.port("mtls"),
        *("-alpn", offer, "-groups", groups),
        credentials=lab.credentials(CLIENT),
    )
    assert agreed in said.text
    assert "HTTP/1.1 200 OK" in said.text
    assert len(application.requests) == 1


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_stock_sidecar_calls_our_listener(
    lab: Lab, application: Application, version: str
) -> None:
    # The chain is chosen by what is offered, as in a PERMISSIVE namespace.
    text = matching("server", OURS, "{transport_protocol: tls, application_protocols: [istio]}")
    nobody = lab.directory / "nobody"
    client_text = stock_client(lab.credentials(CLIENT), lab.roots, version)
    with (
        lab.server(application.port, text) as server,
        lab.client(server.port("mtls"), client_text, SIGNER_SOCKET=nobody) as client,
    ):
        record = Record(server)
        goes_through(client, application)
        record.wait_for_handshakes(server__ok=1)
        assert access_to(server, "/")["protocol"] == f"HTTP/{version}"


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_we_call_a_stock_sidecar(lab: Lab, application: Application, version: str) -> None:
    # And by the name: what the module sends is what a filter chain is chosen by.
    text = matching("server-native", STOCK, f"{{server_names: [{SNI}]}}")
    with (
        lab.envoy(text, stock_values(lab, application.port)) as server,
        lab.client(server.port("mtls"), our_client(version)) as client,
    ):
        record = Record(client)
        goes_through(client, application)
        record.wait_for_handshakes(client__ok=1)
        counter = f"http.mtls.downstream_cx_http{version[0]}_total"
        assert server.stats(f"^{counter}$") == {counter: 1}


def test_a_stock_filter_chain_of_another_name_is_not_ours(
    lab: Lab, application: Application
) -> None:
    text = matching("server-native", STOCK, f"{{server_names: [{SNI}]}}")
    another = our_client(sni=SNI.replace("8080", "8081"))
    with (
        lab.envoy(text, stock_values(lab, application.port)) as server,
        lab.client(server.port("mtls"), another) as client,
    ):
        assert get(client.port("outbound"))[0] == 503
    assert application.requests == []


def test_openssl_sees_the_name_that_istio_sends(lab: Lab) -> None:
    own = lab.credentials(SERVER)
    log = lab.short_path("s").with_suffix(".log")
    options = ("-servername", SNI, "-cert2", str(own.chain), "-key2", str(own.key))
    with (
        SServer(log, own, *options) as peer,
        lab.client(peer.port, our_client("1.1")) as client,
        socket.create_connection(("127.0.0.1", client.port("outbound")), 30) as caller,
    ):
        caller.sendall(GET)
        peer.wait_for(f'Hostname in TLS extension: "{SNI}"')
        peer.wait_for("Switching server context.")
