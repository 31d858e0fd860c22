"""What istiod renders becomes what a stock Envoy reads, by rules that are written down."""

from __future__ import annotations

import json
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
    return json.loads(adapted(given, PLACE).files["lds.json"])["resources"][0]


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


def test_secrets_routes_and_endpoints_are_files_and_mounted_paths_are_below_a_directory() -> None:
    secret = {"name": "default", "sds_config": {"api_config_source": {}}}
    routes = {"rds": {"route_config_name": "8000", "config_source": ADS}}
    cluster = {
        "name": "outbound|8000||a.b",
        "eds_cluster_config": {"service_name": "outbound|8000||a.b", "eds_config": ADS},
        "transport_socket": {"signer": "/run/meshkey/signer.sock", "secret": secret},
        "other": "/run/meshkey-admin/admin.sock",
    }
    given = rendered(virtual({"name": "hcm", "typed_config": routes}), cluster)
    (clusters,) = json.loads(adapted(given, PLACE).files["cds.json"])["resources"]
    source = clusters["eds_cluster_config"]["eds_config"]["path_config_source"]
    assert source == {"path": "/here/eds-outbound_8000__a.b.json"}
    socket = clusters["transport_socket"]
    assert socket["signer"] == "/pod/0/signer.sock"
    from_agent = socket["secret"]["sds_config"]["path_config_source"]
    assert from_agent == {"path": "/pod/agent/default.json"}
    assert clusters["other"] == "/run/meshkey-admin/admin.sock"
    (chain,) = listener_of(given)["filter_chains"]
    config = chain["filters"][0]["typed_config"]["rds"]["config_source"]
    assert config["path_config_source"] == {"path": "/here/rds-8000.json"}


def test_a_proxy_with_meshkey_asks_for_its_secrets_over_sds_as_istiod_says() -> None:
    place = Place(Path("/here"), "127.9.1.1", {})
    secret = {"name": "ROOTCA", "sds_config": {"api_config_source": {"api_type": "GRPC"}}}
    files = adapted(rendered(virtual(), {"name": "a", "secret": secret}), place).files
    assert json.loads(files["cds.json"])["resources"][0]["secret"] == secret
