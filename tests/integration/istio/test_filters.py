"""Our EnvoyFilters, applied by the real istiod: exactly what shall be ours is, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from sidecar.istio.mesh.envoy_filter import HTTP_CONNECTION_MANAGER
from tests.integration.istio.dumps import Dump, Json, changed, filters, http_filters, sent
from tests.integration.istio.scene import (
    AUTO,
    EXTERNAL,
    HEADLESS,
    HTTP,
    SERVER,
    TCP,
    WORKLOAD,
    destination_rule,
    generated_objects,
    objects,
    proxy,
    values,
    without_filters,
)

OURS = "envoy.transport_sockets.dynamic_modules"
ISTIOS = "envoy.transport_sockets.tls"


def _both(mode: str, *more: Json) -> tuple[Dump, Dump]:
    """Without our filters, and with them."""
    ours = generated_objects(values(mode))
    before = sent([*objects(), *more, *without_filters(ours)], WORKLOAD)
    return before, sent([*objects(), *more, *ours], WORKLOAD)


def _socket(of: Json) -> str | None:
    name: str | None = of.get("transport_socket", {}).get("name")
    return name


@cache
def _pairs(mode: str) -> Sequence[tuple[Json, Json]]:
    before, after = _both(mode)
    chains = before.chains("virtualInbound"), after.chains("virtualInbound")
    return list(zip(*chains, strict=True))


@pytest.mark.parametrize("mode", ["strict", "permissive"])
def test_exactly_the_chains_with_mutual_tls_are_ours(mode: str) -> None:
    pairs = _pairs(mode)
    assert any(_socket(before) == ISTIOS for before, _ in pairs)
    for before, after in pairs:
        if _socket(before) == ISTIOS:
            assert (_socket(after), filters(after)[0]) == (OURS, "meshkey_peer")
        else:
            assert after == before


@pytest.mark.parametrize("mode", ["strict", "permissive"])
def test_each_of_our_filters_is_there_once_and_first(mode: str) -> None:
    for before, after in _pairs(mode):
        if _socket(after) != OURS:
            continue
        assert filters(after) == ["meshkey_peer", *filters(before)]
        http = [each["name"] for each in http_filters(after)]
        if http:
            ours = ["meshkey_headers", "meshkey_identity"]
            assert http == [*ours, *(each["name"] for each in http_filters(before))]


@pytest.mark.parametrize("mode", ["strict", "permissive"])
def test_a_chain_that_is_ours_is_otherwise_as_it_was(mode: str) -> None:
    for before, after in _pairs(mode):
        if _socket(after) != OURS:
            continue
        assert after["transport_socket_connect_timeout"] == "15s"
        ours = {"filters", "transport_socket", "transport_socket_connect_timeout"}
        assert {k: v for k, v in after.items() if k not in ours} == {
            k: v for k, v in before.items() if k not in ours
        }
        for old, new in zip(before["filters"], after["filters"][1:], strict=True):
            assert _without_ours(new) == old


def _without_ours(network_filter: Json) -> Json:
    config = dict(network_filter["typed_config"])
    early = config.pop("early_header_mutation_extensions", [{}])
    assert len(early) == 1
    if "http_filters" in config:
        config["http_filters"] = [
            each for each in config["http_filters"] if not each["name"].startswith("meshkey_")
        ]
    return {**network_filter, "typed_config": config}


def test_every_socket_is_set_up_alike() -> None:
    sockets = [
        after["transport_socket"] for _, after in _pairs("permissive") if _socket(after) == OURS
    ]
    assert all(each == sockets[0] for each in sockets)
    settings = sockets[0]["typed_config"]["transport_socket_config"]["value"]
    assert settings["alpn"] == ["h2", "http/1.1"]
    assert settings["peers"] == {"trust_domain": "cluster.local"}


def test_permissive_chains_for_other_tls_and_plain_text_stay() -> None:
    kept = [after for _, after in _pairs("permissive") if _socket(after) is None]
    matches = [each["filter_chain_match"] for each in kept]
    plain = {each.get("destination_port") for each in matches if "raw_buffer" in str(each)}
    foreign = {
        each.get("destination_port")
        for each in matches
        if each.get("transport_protocol") == "tls" and "application_protocols" not in each
    }
    tcp, http, auto = TCP + 100, HTTP + 100, AUTO + 100
    assert plain == {None, http, tcp, auto}
    assert foreign == {None, tcp, auto}


@pytest.mark.parametrize("mode", ["strict", "permissive"])
def test_a_proxy_has_the_waker_once_and_no_other_listener_changes(mode: str) -> None:
    before, after = _both(mode)
    assert changed(before.listeners, after.listeners) == {"virtualInbound", "meshkey_waker"}


RULES: dict[str, list[Json]] = {
    "automatic": [],
    "mutual": [destination_rule(SERVER, "ISTIO_MUTUAL")],
    "disabled": [destination_rule(SERVER, "DISABLE")],
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_exactly_the_ports_that_are_named_are_called_with_our_socket(rules: list[Json]) -> None:
    before, after = _both("strict", *rules)
    subsets = ["", "v1"] if rules else [""]
    named = {f"outbound|{port}|{each}|{SERVER}" for port in (HTTP, TCP) for each in subsets}
    named |= {f"outbound|{port}||{HEADLESS}" for port in (HTTP, TCP)}
    assert changed(before.clusters, after.clusters) == named
    for name in named:
        _assert_ours_alone(after.clusters[name])


def _assert_ours_alone(cluster: Json) -> None:
    """No other socket is in reach, whatever its endpoints say."""
    (only,) = cluster["transport_socket_matches"]
    assert only["match"] == {}
    socket: Any = cluster.get("transport_socket", only["transport_socket"])
    assert socket == only["transport_socket"]
    assert socket["name"] == OURS
    settings = socket["typed_config"]["transport_socket_config"]["value"]
    _, port, _, host = cluster["name"].split("|")
    assert settings["sni"] == f"outbound_.{port}_._.{host}"
    assert settings["peers"]["entry"] == host


def test_nothing_but_sockets_of_a_cluster_changes() -> None:
    before, after = _both("strict", destination_rule(SERVER, "ISTIO_MUTUAL"))
    for name in changed(before.clusters, after.clusters):
        pair = before.clusters[name], after.clusters[name]
        ours = {"transport_socket", "transport_socket_matches"}
        old, new = ({k: v for k, v in each.items() if k not in ours} for each in pair)
        assert new == old


def test_our_identity_does_not_leave_the_mesh() -> None:
    _, after = _both("strict")
    assert _socket(after.clusters[f"outbound|443||{EXTERNAL}"]) == ISTIOS
    for name in ("PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"):
        assert _socket(after.clusters[name]) is None


def test_no_cluster_of_ours_is_told_its_protocol_by_alpn() -> None:
    # Envoy refuses that with a transport socket that does not say so.
    before, after = _both("strict")
    ours = changed(before.clusters, after.clusters)
    assert not [name for name in ours if "auto_config" in str(after.clusters[name])]


def test_a_pod_without_the_sidecar_is_as_istio_has_it() -> None:
    plain = proxy({"app": "server"})
    ours = generated_objects(values("strict"))
    before = sent([*objects(), *without_filters(ours)], plain)
    after = sent([*objects(), *ours], plain)
    assert before == after


def test_what_others_put_first_comes_after_ours() -> None:
    buffer = {
        "name": "others",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
            "max_request_bytes": 1,
        },
    }
    manager = {"filterChain": {"filter": {"name": HTTP_CONNECTION_MANAGER}}}
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "SIDECAR_INBOUND", "listener": manager},
        "patch": {"operation": "INSERT_FIRST", "value": buffer},
    }
    others = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "others", "namespace": "demo"},
        "spec": {"configPatches": [patch]},
    }
    _, after = _both("strict", others)
    chains = [each for each in after.chains("virtualInbound") if _socket(each) == OURS]
    first = [[each["name"] for each in http_filters(chain)][:3] for chain in chains]
    assert any(first)
    for names in filter(None, first):
        assert names == ["meshkey_headers", "meshkey_identity", "others"]
