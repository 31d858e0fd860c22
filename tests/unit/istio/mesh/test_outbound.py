"""What is patched on the clusters of services that the values name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.istio.mesh.outbound import outbound
from tests.fixtures.meshes import mesh, patches

HOST = "server.demo.svc.cluster.local"
SERVICES = [
    {
        "host": HOST,
        "ports": [{"number": 8000, "protocol": "http"}, {"number": 9000, "protocol": "tcp"}],
        "service_accounts": ["demo/server"],
    }
]
GATEWAY = {"name": "egress", "namespace": "edge", "labels": {"istio": "egress"}}


def _settings(patch: Mapping[str, Any]) -> Mapping[str, Any]:
    value = patch["patch"]["value"]
    socket = (
        value.get("transport_socket") or value["transport_socket_matches"][0]["transport_socket"]
    )
    settings: Mapping[str, Any] = socket["typed_config"]["transport_socket_config"]["value"]
    return settings


def test_nothing_is_patched_where_no_service_is_named() -> None:
    assert outbound(mesh(gateways=[GATEWAY])) == []


def test_every_patch_is_for_one_port_of_one_host() -> None:
    (document,) = outbound(mesh(services=SERVICES))
    matches = [each["match"]["cluster"] for each in patches(document)]
    ports = [{"service": HOST, "portNumber": number} for number in (8000, 8000, 9000, 9000)]
    assert matches == ports


def test_the_one_socket_is_replaced_before_the_list_of_sockets() -> None:
    (document,) = outbound(mesh(services=SERVICES))
    first, second, *_ = (each["patch"] for each in patches(document))
    assert (first["operation"], *first["value"]) == ("MERGE", "transport_socket")
    assert second["operation"] == "MERGE_AND_REPLACE_LIST"
    (only,) = second["value"]["transport_socket_matches"]
    assert only["match"] == {}
    assert only["transport_socket"] == first["value"]["transport_socket"]


def test_a_cluster_says_what_istio_would_and_accepts_its_entry_alone() -> None:
    (document,) = outbound(mesh(services=SERVICES))
    http, _, tcp, _ = map(_settings, patches(document))
    assert http["sni"] == f"outbound_.8000_._.{HOST}"
    assert tcp["sni"] == f"outbound_.9000_._.{HOST}"
    assert http["alpn"] == ["istio-http/1.1", "istio-h2", "istio"]
    assert tcp["alpn"] == ["istio"]
    for each in (http, tcp):
        assert each["peers"] == {"file": "/etc/meshkey-peers/peers.json", "entry": HOST}


def test_the_module_gives_up_before_istios_ten_seconds() -> None:
    (document,) = outbound(mesh(services=SERVICES))
    assert all(_settings(each)["handshake_timeout_ms"] < 10_000 for each in patches(document))


def test_a_gateway_has_its_own_filter_for_its_own_pods() -> None:
    _, document = outbound(mesh(services=SERVICES, gateways=[GATEWAY]))
    (envoy_filter,) = document.objects
    assert envoy_filter["metadata"]["namespace"] == "edge"
    labels = {"istio": "egress", "meshkey.io/signer": "enabled"}
    assert envoy_filter["spec"]["workloadSelector"] == {"labels": labels}
    assert {each["match"]["context"] for each in patches(document)} == {"GATEWAY"}
