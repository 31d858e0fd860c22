"""Our EnvoyFilters on a gateway, applied by the real istiod: its ISTIO_MUTUAL servers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.integration.istio.dumps import Dump, Json, changed, filters, http_filters, sent
from tests.integration.istio.scene import (
    HEADLESS,
    HTTP,
    SERVER,
    SIGNER,
    TCP,
    generated_objects,
    objects,
    proxy,
    values,
    without_filters,
)

OURS = "envoy.transport_sockets.dynamic_modules"
LABELS = {"istio": "edge"}
GATEWAY = proxy({**LABELS, **SIGNER}, ip="10.0.0.2", type="router")
SHARED, WHOLE, BROWSERS = 8443, 15443, 443
MUTUAL = [{"port": SHARED, "hosts": ["a.mesh", "b.mesh"]}, {"port": WHOLE}]


def _server(port: int, hosts: Sequence[str], protocol: str, **tls: Any) -> Json:
    name = f"{protocol.lower()}-{port}-{hosts[0].partition('.')[0].replace('*', 'all')}"
    return {
        "port": {"number": port, "name": name, "protocol": protocol},
        "hosts": list(hosts),
        "tls": tls,
    }


def _gateway() -> list[Json]:
    servers = [
        _server(SHARED, ["a.mesh", "b.mesh"], "HTTPS", mode="ISTIO_MUTUAL"),
        _server(SHARED, ["c.mesh"], "HTTPS", mode="SIMPLE", credentialName="c"),
        _server(SHARED, ["d.mesh"], "HTTPS", mode="MUTUAL", credentialName="d"),
        _server(WHOLE, ["*"], "TLS", mode="ISTIO_MUTUAL"),
        _server(BROWSERS, ["e.mesh"], "HTTPS", mode="SIMPLE", credentialName="e"),
    ]
    to = [{"destination": {"host": SERVER, "port": {"number": HTTP}}}]
    routes = {
        "hosts": ["*"],
        "gateways": ["edge"],
        "http": [{"route": to}],
        "tcp": [{"match": [{"port": WHOLE}], "route": to}],
    }
    return [
        _istio("Gateway", {"selector": LABELS, "servers": servers}),
        _istio("VirtualService", routes),
    ]


def _istio(kind: str, spec: Json) -> Json:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": "edge", "namespace": "demo"},
        "spec": spec,
    }


def _both() -> tuple[Dump, Dump]:
    edge = {"name": "edge", "namespace": "demo", "labels": LABELS, "mutual": MUTUAL}
    ours = generated_objects(values(gateways=[edge]))
    everything = [*objects(), *_gateway()]
    return sent([*everything, *without_filters(ours)], GATEWAY), sent([*everything, *ours], GATEWAY)


def _chains(dump: Dump, port: int) -> list[Json]:
    return list(dump.chains(f"0.0.0.0_{port}"))


def test_exactly_the_mutual_servers_listeners_change() -> None:
    before, after = _both()
    expected = {f"0.0.0.0_{SHARED}", f"0.0.0.0_{WHOLE}", "meshkey_waker"}
    assert f"0.0.0.0_{BROWSERS}" in after.listeners
    assert changed(before.listeners, after.listeners) == expected


def test_servers_with_certificates_of_their_own_are_left_alone() -> None:
    before, after = (_chains(each, SHARED) for each in _both())
    kept = [(old, new) for old, new in zip(before, after, strict=True) if old == new]
    names = [new["filter_chain_match"]["server_names"] for _, new in kept]
    assert names == [["c.mesh"], ["d.mesh"]]


def test_a_server_of_several_hosts_is_patched_once() -> None:
    _, after = _both()
    (chain,) = (each for each in _chains(after, SHARED) if each["transport_socket"]["name"] == OURS)
    assert chain["filter_chain_match"]["server_names"] == ["a.mesh", "b.mesh"]
    assert filters(chain).count("meshkey_peer") == 1
    assert filters(chain)[0] == "meshkey_peer"
    names = [each["name"] for each in http_filters(chain)]
    assert names[:2] == ["meshkey_headers", "meshkey_identity"]
    assert len([each for each in names if each.startswith("meshkey_")]) == 2
    manager = chain["filters"][-1]["typed_config"]
    assert manager["scheme_header_transformation"] == {"scheme_to_overwrite": "https"}


def test_a_server_of_every_host_is_patched_by_its_port() -> None:
    _, after = _both()
    (chain,) = _chains(after, WHOLE)
    assert (chain["transport_socket"]["name"], filters(chain)[0]) == (OURS, "meshkey_peer")


def test_a_gateway_calls_the_named_services_with_our_socket() -> None:
    before, after = _both()
    expected = {f"outbound|{port}||{host}" for port in (HTTP, TCP) for host in (SERVER, HEADLESS)}
    assert changed(before.clusters, after.clusters) == expected
