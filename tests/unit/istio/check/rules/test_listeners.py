from __future__ import annotations

import pytest

from tests.fixtures.marked import found, marked
from tests.unit.istio.check.rules.texts import (
    MESH,
    STRICT,
    chain,
    cluster,
    envoy_filter,
    inbound,
    network_filter,
    replaced,
)


def found_inbound(text: str) -> set[tuple[str, int, str]]:
    return found(text, STRICT, MESH)


def test_a_chain_with_the_peers_filter_first_is_right() -> None:
    assert found_inbound(inbound()) == set()


def test_a_chain_without_the_peers_filter_is_found() -> None:
    bad = envoy_filter(chain(mark="# << peer-filter-missing"))
    assert found_inbound(bad) == marked(bad)


def test_a_peers_filter_on_other_chains_is_found() -> None:
    bad = envoy_filter(
        chain(mark="# << peer-filter-missing"),
        network_filter(match="{destinationPort: 80}", mark="# << peer-filter-without-socket"),
    )
    assert found_inbound(bad) == marked(bad)


def test_a_peers_filter_alone_is_found() -> None:
    bad = envoy_filter(network_filter(mark="# << peer-filter-without-socket"))
    assert found(bad) == marked(bad)


@pytest.mark.parametrize("operation", ["INSERT_BEFORE", "ADD"])
def test_a_peers_filter_that_is_not_inserted_first_is_found(operation: str) -> None:
    bad = envoy_filter(
        chain(), network_filter(operation=operation, mark="# << peer-filter-not-first")
    )
    assert found_inbound(bad) == marked(bad)


def test_a_filter_that_is_inserted_before_the_peers_is_found() -> None:
    peer = network_filter(mark="# << peer-filter-not-first")
    bad = envoy_filter(chain(), peer, network_filter("other"))
    assert found_inbound(bad) == marked(bad)
    assert found_inbound(envoy_filter(chain(), network_filter("other"), peer)) == set()


def test_what_else_a_patch_matches_by_is_the_same_chain() -> None:
    match = "{transportProtocol: tls, filter: {name: envoy.filters.network.tcp_proxy}}"
    peer = network_filter(mark="# << peer-filter-not-first")
    bad = envoy_filter(chain(), peer, network_filter("other", match=match))
    assert found_inbound(bad) == marked(bad)


@pytest.mark.parametrize("labels", ["{}", "{app: server}", "{meshkey.io/signer: disabled}"])
def test_a_filter_for_pods_without_the_sidecar_is_found(labels: str) -> None:
    labels += " # << no-workload-selector"
    bad = envoy_filter(chain(), network_filter(), labels=labels)
    assert found_inbound(bad) == marked(bad)
    calls = envoy_filter(cluster(), replaced(), labels=labels)
    assert found(calls) == marked(calls)


def test_a_filter_for_some_pods_with_the_sidecar_is_right() -> None:
    labels = "{app: server, meshkey.io/signer: enabled}"
    assert found_inbound(envoy_filter(chain(), network_filter(), labels=labels)) == set()
