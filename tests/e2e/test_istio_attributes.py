"""Who the peer is, as Istio's authorization policies can ask for it on a sidecar."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from sidecar.demo.mesh import CLIENT
from sidecar.demo.processes import wait_for
from sidecar.istio.mesh.headers import verified_headers
from sidecar.istio.mesh.identity import METADATA, PEER_HEADER, Attribute, request_attributes
from tests.e2e.application import Application
from tests.e2e.lab import OTHER, Lab, bootstrap
from tests.e2e.peers import call, client_context, connect
from tests.e2e.tcp import TcpServer
from tests.e2e.test_istio_principals import HTTP_PRINCIPALS, TCP_PRINCIPALS

Asked = tuple[Attribute, Mapping[str, object]]
NAMED: Asked = (Attribute.PRINCIPAL, {"exact": CLIENT.removeprefix("spiffe://")})
SUFFIX: Asked = (Attribute.PRINCIPAL, {"suffix": CLIENT.rpartition("/ns/")[2]})
NAMESPACE: Asked = (Attribute.NAMESPACE, {"exact": "demo"})
# A workload of the trust domain whose SPIFFE ID is not of Istio's form.
STRANGER = "spiffe://demo.mesh/stranger"
STRANGE: Asked = (Attribute.PRINCIPAL, {"exact": "demo.mesh/stranger"})
ANYWHERE: Asked = (Attribute.NAMESPACE, {"safe_regex": {"regex": ".+"}})
ANOTHER: Asked = (Attribute.NAMESPACE, {"exact": "dem"})
CASES: list[tuple[Asked, str, bool]] = [
    (NAMED, CLIENT, True),
    (NAMED, OTHER, False),
    (SUFFIX, CLIENT, True),
    (SUFFIX, OTHER, False),
    (NAMESPACE, OTHER, True),
    (ANOTHER, OTHER, False),
    (STRANGE, STRANGER, True),
    (ANYWHERE, STRANGER, False),
    (ANYWHERE, OTHER, True),
]

RBAC = "          - name: envoy.filters.http.rbac\n"


def condition(asked: Asked) -> str:
    """A rule's `when`, as istiod renders it for HTTP and TCP."""
    attribute, matcher = asked
    value = {"string_match": matcher}
    metadata = {"filter": METADATA, "path": [{"key": str(attribute)}], "value": value}
    return f"permissions: {json.dumps([{'metadata': metadata}])}"


def http(asked: Asked, action: str) -> str:
    """server.yaml with the filters that are put first on a sidecar, and a policy."""
    # JSON is YAML; in a template a dollar sign is doubled.
    filters = (json.dumps(each).replace("$", "$$") for each in _filters())
    changes = {
        "permissions: [{any: true}]": condition(asked),
        HTTP_PRINCIPALS: " " * 20 + "- any: true\n",
        "action: ALLOW": f"action: {action}",
        RBAC: "".join(f"          - {each}\n" for each in filters) + RBAC,
    }
    return bootstrap("server", changes)


def _filters() -> list[object]:
    return [verified_headers(), request_attributes()]


@pytest.mark.parametrize(("asked", "who", "true"), CASES)
@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_an_http_policy_asks_for_attributes_of_the_verified_peer(
    lab: Lab, application: Application, asked: Asked, who: str, true: bool, action: str
) -> None:
    with lab.server(application.port, http(asked, action)) as server:
        answer = call(server.port("mtls"), client_context(lab.credentials(who)))
    assert answer.status == (200 if true == (action == "ALLOW") else 403)


@pytest.mark.parametrize(("asked", "who", "true"), CASES)
def test_a_tcp_policy_asks_for_attributes_of_the_verified_peer(
    lab: Lab, asked: Asked, who: str, true: bool
) -> None:
    changes = {
        "permissions: [{any: true}]": condition(asked),
        TCP_PRINCIPALS: " " * 16 + "- any: true\n",
    }
    with (
        TcpServer() as upstream,
        lab.tcp_server(
            upstream.port, "{trust_domain: demo.mesh}", bootstrap("server-tcp", changes)
        ) as server,
        connect(server.port("mtls"), client_context(lab.credentials(who))) as connection,
    ):
        connection.sendall(b"hello")
        if true:
            wait_for(lambda: upstream.octets == b"hello", "it arrives")
        else:
            assert connection.recv(1024) == b""
            assert upstream.octets == b""


def test_what_a_caller_says_of_itself_counts_for_nothing(
    lab: Lab, application: Application
) -> None:
    request = f"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{PEER_HEADER}: {CLIENT}\r\n\r\n"
    with lab.server(application.port, http(NAMED, "ALLOW")) as server:
        port = server.port("mtls")
        assert call(port, client_context(lab.credentials(OTHER)), request.encode()).status == 403
        assert call(port, client_context(lab.credentials(CLIENT)), request.encode()).status == 200
    (seen,) = application.requests
    assert seen.values(PEER_HEADER) == []


def test_where_no_peer_is_known_a_caller_cannot_say_it_either(
    lab: Lab, application: Application
) -> None:
    nobody = http(NAMED, "ALLOW").replace("FILTER_STATE(meshkey.", "FILTER_STATE(nothing.")
    request = f"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{PEER_HEADER}: {CLIENT}\r\n\r\n"
    with lab.server(application.port, nobody) as server:
        context = client_context(lab.credentials(OTHER))
        assert call(server.port("mtls"), context, request.encode()).status == 403
    assert application.requests == []
