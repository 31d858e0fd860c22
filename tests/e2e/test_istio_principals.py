"""Who the peer is and who we are, where Istio's own filters look for it."""

from __future__ import annotations

import pytest

from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import wait_for
from tests.e2e.application import Application
from tests.e2e.lab import OTHER, Lab, bootstrap
from tests.e2e.peers import call, client_context, connect
from tests.e2e.record import Record
from tests.e2e.tcp import TcpServer
from tests.e2e.test_configuration import COMPANION

PEER_KEY = "io.istio.peer_principal"
LOCAL_KEY = "io.istio.local_principal"
KEYS = [PEER_KEY, LOCAL_KEY, "meshkey.peer"]
# As istiod renders sources that it looks up in filter state, for HTTP and for TCP:
# `principals: [...]` and `namespaces: [...]`. In a template a dollar sign is doubled.
PRINCIPAL = f'exact: "{CLIENT}"'
NAMESPACE = "safe_regex: {regex: .*/ns/demo/.*}"
ANOTHER_NAMESPACE = "safe_regex: {regex: .*/ns/dem/.*}"
HTTP_PRINCIPALS = """                    - filter_state:
                        key: meshkey.peer
                        string_match: {exact: "${ALLOWED_PEER}"}
"""
TCP_PRINCIPALS = """                - filter_state: {key: meshkey.peer, string_match: \
{exact: "${ALLOWED_PEER}"}}
"""
OUR_HEADER = '"%FILTER_STATE(meshkey.xfcc:PLAIN)%"'
# What Istio gives a waypoint, which terminates mutual TLS elsewhere.
ISTIO_HEADER = f'"By=%FILTER_STATE({LOCAL_KEY}:PLAIN)%;URI=%FILTER_STATE({PEER_KEY}:PLAIN)%"'
ADMIN = "spiffe://demo.mesh/ns/istio-system/sa/admin"


def sources(matcher: str) -> str:
    """The principal of a rule with one source."""
    state = f"{{filter_state: {{key: {PEER_KEY}, string_match: {{{matcher}}}}}}}"
    return f"- and_ids: {{ids: [{{or_ids: {{ids: [{state}]}}}}]}}\n"


def http_policy(matcher: str, action: str = "ALLOW") -> str:
    """server.yaml with Istio's policy and header in the place of ours."""
    changes = {
        HTTP_PRINCIPALS: " " * 20 + sources(matcher),
        "action: ALLOW": f"action: {action}",
        OUR_HEADER: ISTIO_HEADER,
    }
    return bootstrap("server", changes)


def planting(key: str, value: str, moment: str, *, read_only: bool = False) -> str:
    """A network filter that says who the peer is, or who we are, on its own."""
    return f"""      - name: planted
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config
          {moment}:
          - object_key: {key}
            factory_key: envoy.string
            read_only: {str(read_only).lower()}
            format_string: {{text_format_source: {{inline_string: "{value}"}}}}
"""


@pytest.mark.parametrize(
    ("matcher", "action", "who", "status"),
    [
        (PRINCIPAL, "ALLOW", CLIENT, 200),
        (PRINCIPAL, "ALLOW", OTHER, 403),
        (PRINCIPAL, "DENY", CLIENT, 403),
        (PRINCIPAL, "DENY", OTHER, 200),
        (NAMESPACE, "ALLOW", OTHER, 200),
        (NAMESPACE, "DENY", OTHER, 403),
        (ANOTHER_NAMESPACE, "ALLOW", OTHER, 403),
    ],
)
def test_an_http_policy_of_istios_decides_by_the_verified_peer(
    lab: Lab, application: Application, matcher: str, action: str, who: str, status: int
) -> None:
    with lab.server(application.port, http_policy(matcher, action)) as server:
        answer = call(server.port("mtls"), client_context(lab.credentials(who)))
    assert answer.status == status
    assert len(application.requests) == (status == 200)


@pytest.mark.parametrize(
    ("matcher", "who", "let_in"),
    [(PRINCIPAL, CLIENT, True), (PRINCIPAL, OTHER, False), (NAMESPACE, OTHER, True)],
)
def test_a_tcp_policy_of_istios_decides_by_the_verified_peer(
    lab: Lab, matcher: str, who: str, let_in: bool
) -> None:
    text = bootstrap("server-tcp", {TCP_PRINCIPALS: " " * 16 + sources(matcher)})
    with (
        TcpServer() as upstream,
        lab.tcp_server(upstream.port, "{trust_domain: demo.mesh}", text) as server,
        connect(server.port("mtls"), client_context(lab.credentials(who))) as connection,
    ):
        connection.sendall(b"hello")
        if let_in:
            wait_for(lambda: upstream.octets == b"hello", "it arrives")
        else:
            assert connection.recv(1024) == b""
            assert upstream.octets == b""


def test_the_header_of_a_waypoint_tells_both_ends(lab: Lab, application: Application) -> None:
    spoofed = f"GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: URI={ADMIN}\r\n"
    request = f"{spoofed}connection: close\r\n\r\n".encode()
    with lab.server(application.port, http_policy(PRINCIPAL)) as server:
        context = client_context(lab.credentials(CLIENT))
        assert call(server.port("mtls"), context, request).status == 200
    (seen,) = application.requests
    assert seen.values("x-forwarded-client-cert") == [f"By={SERVER};URI={CLIENT}"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("read_only", [False, True])
def test_what_a_filter_before_the_companion_says_is_replaced(
    lab: Lab, application: Application, key: str, read_only: bool
) -> None:
    value = ADMIN if key == LOCAL_KEY else CLIENT
    planted = planting(key, value, "on_new_connection", read_only=read_only)
    text = http_policy(PRINCIPAL).replace(COMPANION, planted + COMPANION)
    with lab.server(application.port, text) as server:
        assert call(server.port("mtls"), client_context(lab.credentials(OTHER))).status == 403
        assert call(server.port("mtls"), client_context(lab.credentials(CLIENT))).status == 200
    (seen,) = application.requests
    assert seen.values("x-forwarded-client-cert") == [f"By={SERVER};URI={CLIENT}"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("moment", ["on_new_connection", "on_downstream_tls_handshake"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_filter_after_the_companion_that_says_something_else_closes_the_connection(
    lab: Lab, application: Application, key: str, moment: str, read_only: bool
) -> None:
    # Envoy lets it: nothing in filter state is protected from other filters.
    planted = planting(key, ADMIN, moment, read_only=read_only)
    text = http_policy(NAMESPACE).replace(COMPANION, COMPANION + planted)
    with lab.server(application.port, text) as server:
        record = Record(server)
        answer = call(server.port("mtls"), client_context(lab.credentials(OTHER)))
        assert answer.octets == b""
        said = f"filter state {key} was changed: no other filter may set it"
        assert f"meshkey_peer closed a connection: {said}" in record.logged()
    assert application.requests == []


@pytest.mark.parametrize("key", KEYS)
def test_an_http_filter_cannot_change_it(lab: Lab, application: Application, key: str) -> None:
    planted = f"""          - name: planted
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config
              on_request_headers:
              - object_key: {key}
                factory_key: envoy.string
                format_string: {{text_format_source: {{inline_string: "{ADMIN}"}}}}
"""
    mutation = "          - name: envoy.filters.http.header_mutation\n"
    text = http_policy(PRINCIPAL)
    assert text.count(mutation) == 1
    with lab.server(application.port, text.replace(mutation, planted + mutation)) as server:
        assert call(server.port("mtls"), client_context(lab.credentials(CLIENT))).status == 200
    (seen,) = application.requests
    assert seen.values("x-forwarded-client-cert") == [f"By={SERVER};URI={CLIENT}"]
