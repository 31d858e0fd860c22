"""What istiod renders becomes what a stock Envoy reads, by rules that are written down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.istio.adapter import NotAdapted, Place, adapted
from tests.fixtures.istiod import Given

PLACE = Place(Path("/here"), "127.9.1.1", {"/run/meshkey": Path("/pod/0")}, Path("/pod/agent"))
ADS = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}


def rendered(listener: dict[str, Any], *clusters: dict[str, Any]) -> Given:
    return Given([listener], clusters, [], [])


def listener_of(given: Given) -> Any:
    return json.loads(adapted(given, PLACE)["lds.json"])["resources"][0]


def virtual(*filters: dict[str, Any], **more: Any) -> dict[str, Any]:
    address = {"socket_address": {"address": "0.0.0.0", "port_value": 15006}}
    chains = [{"filters": [*filters]}]
    return {"name": "virtualInbound", "address": address, "filter_chains": chains, **more}


def test_a_filter_of_istios_that_no_rule_speaks_of_is_an_error() -> None:
    with pytest.raises(NotAdapted, match=r"'istio\.unheard_of': add it to ISTIO_FILTERS"):
        adapted(rendered(virtual({"name": "istio.unheard_of"})), PLACE)


def test_istios_filters_are_left_out_at_every_depth_and_no_other() -> None:
    manager = {"http_filters": [{"name": "istio.alpn"}, {"name": "envoy.filters.http.router"}]}
    given = rendered(
        virtual({"name": "istio.metadata_exchange"}, {"name": "hcm", "typed_config": manager})
    )
    kept = {"http_filters": [{"name": "envoy.filters.http.router"}]}
    assert listener_of(given)["filter_chains"] == [
        {"filters": [{"name": "hcm", "typed_config": kept}]}
    ]


def test_where_the_kernel_was_asked_the_proxy_protocol_tells() -> None:
    asked = [{"name": "envoy.filters.listener.original_dst"}, {"name": "tls_inspector"}]
    listener = listener_of(rendered(virtual(listener_filters=asked)))
    names = [each["name"] for each in listener["listener_filters"]]
    assert names == ["envoy.filters.listener.proxy_protocol", "tls_inspector"]
    assert listener["address"] == {"pipe": {"path": "/here/virtualInbound.sock"}}


def test_a_listener_that_binds_no_port_is_as_it_was() -> None:
    listener = {**virtual(), "name": "0.0.0.0_8000", "bind_to_port": False}
    adapted_one = listener_of(rendered(listener))
    del adapted_one["@type"]
    assert adapted_one == listener


def test_a_gateways_listener_is_at_its_pods_address() -> None:
    listener = {**virtual(), "name": "0.0.0.0_8443"}
    address = {"address": "127.9.1.1", "port_value": 15006}
    assert listener_of(rendered(listener))["address"] == {"socket_address": address}


NAME = "outbound|8000||a.b"
CLUSTER = {
    "name": NAME,
    "type": "EDS",
    "eds_cluster_config": {"service_name": NAME, "eds_config": ADS},
}
ENDPOINTS = {"cluster_name": NAME, "endpoints": []}


def cluster_of(given: Given, place: Place) -> Any:
    return json.loads(adapted(given, place)["cds.json"])["resources"][0]


def test_routes_are_in_the_listener_that_names_them() -> None:
    manager = {"rds": {"route_config_name": "8000", "config_source": ADS}}
    routes = {"name": "8000", "virtual_hosts": []}
    given = Given([virtual({"name": "hcm", "typed_config": manager})], [], [routes], [])
    (chain,) = listener_of(given)["filter_chains"]
    inline = {**routes, "validate_clusters": False}
    assert chain["filters"][0]["typed_config"] == {"route_config": inline}


def test_endpoints_are_in_their_cluster() -> None:
    given = Given([], [CLUSTER], [], [ENDPOINTS])
    cluster = cluster_of(given, PLACE)
    assert (cluster["type"], cluster["load_assignment"]) == ("STATIC", ENDPOINTS)
    assert "eds_cluster_config" not in cluster


def test_endpoints_that_move_are_a_file_of_their_own() -> None:
    given, place = Given([], [CLUSTER], [], [ENDPOINTS]), replace(PLACE, moving=True)
    source = cluster_of(given, place)["eds_cluster_config"]["eds_config"]["path_config_source"]
    assert source == {"path": "/here/eds-outbound_8000__a.b.json"}
    (file,) = json.loads(adapted(given, place)["eds-outbound_8000__a.b.json"])["resources"]
    assert file["cluster_name"] == NAME


def test_paths_that_are_mounted_are_below_a_directory_and_no_others() -> None:
    cluster = {"name": "a", "in": "/run/meshkey/signer.sock", "out": "/run/meshkey-admin/a.sock"}
    found = cluster_of(rendered(virtual(), cluster), PLACE)
    assert (found["in"], found["out"]) == ("/pod/0/signer.sock", "/run/meshkey-admin/a.sock")


def test_a_stock_proxys_secrets_are_files() -> None:
    secret = {"name": "default", "sds_config": {"api_config_source": {}}}
    found = cluster_of(rendered(virtual(), {"name": "a", "secret": secret}), PLACE)
    source = found["secret"]["sds_config"]["path_config_source"]
    assert source == {"path": "/pod/agent/default.json"}


def test_a_proxy_with_meshkey_asks_for_its_secrets_over_sds_as_istiod_says() -> None:
    place = Place(Path("/here"), "127.9.1.1", {})
    secret = {"name": "ROOTCA", "sds_config": {"api_config_source": {"api_type": "GRPC"}}}
    given = rendered(virtual(), {"name": "a", "secret": secret})
    assert cluster_of(given, place)["secret"] == secret
