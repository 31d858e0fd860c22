from __future__ import annotations

import pytest

from tests.fixtures.marked import found, marked
from tests.unit.istio.check.rules.texts import STRICT, inbound, workload

ALPN = '{applicationProtocols: "istio-http/1.1"}'


def policy(
    mode: str = "",
    namespace: str = "demo",
    selector: str = "{}",
    ports: str = "{}",
    name: str = "default",
    created: str = "",
) -> str:
    return f"""\
---
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{created}"}}
spec:
  selector: {{matchLabels: {selector}}}
  mtls:
    mode: {mode}
  portLevelMtls: {ports}
"""


def test_a_strict_namespace_is_right() -> None:
    assert found(inbound(), STRICT) == set()


def test_a_permissive_namespace_is_right_with_chains_by_alpn() -> None:
    assert found(inbound(ALPN), policy("PERMISSIVE")) == set()
    assert found(inbound(ALPN)) == set()


def test_nothing_that_says_strict_is_found_at_the_filter() -> None:
    bad = inbound(mark="# << permissive-inbound")
    assert found(bad) == marked(bad)
    unset = policy("UNSET")
    assert found(bad, unset) == marked(bad)
    elsewhere = policy("STRICT", namespace="other")
    assert found(bad, elsewhere) == marked(bad)


def test_a_permissive_namespace_is_found() -> None:
    bad = policy("PERMISSIVE # << permissive-inbound")
    assert found(bad, inbound()) == marked(bad)


def test_a_strict_namespace_with_chains_by_alpn_is_found() -> None:
    bad = policy("STRICT # << strict-inbound")
    assert found(bad, inbound(ALPN)) == marked(bad)


@pytest.mark.parametrize("match", ["{transportProtocol: tls}", ALPN])
def test_a_namespace_without_mutual_tls_is_found(match: str) -> None:
    bad = policy("DISABLE # << mtls-disabled")
    assert found(bad, inbound(match)) == marked(bad)


def test_the_meshs_mode_is_that_of_namespaces_that_say_nothing() -> None:
    strict = policy("STRICT", namespace="istio-system")
    assert found(inbound(), strict) == set()
    assert found(inbound(), strict, policy("UNSET")) == set()
    bad = policy("PERMISSIVE # << permissive-inbound")
    assert found(bad, inbound(), strict) == marked(bad)


def test_the_root_namespace_is_the_one_that_the_mesh_is_told() -> None:
    config = "kind: IstioOperator\nspec:\n  meshConfig: {rootNamespace: mesh-root}\n"
    assert found(inbound(), config, policy("STRICT", namespace="mesh-root")) == set()
    bad = inbound(mark="# << permissive-inbound")
    assert found(bad, config, policy("STRICT", namespace="istio-system")) == marked(bad)


@pytest.mark.parametrize("ours", [workload("server"), ""])
def test_a_permissive_workload_is_found(ours: str) -> None:
    bad = policy("PERMISSIVE # << permissive-inbound", selector="{app: server}", name="server")
    assert found(bad, inbound(), STRICT, ours) == marked(bad)


def test_a_permissive_workload_without_the_sidecar_is_right() -> None:
    other = workload("server").replace("sidecar,signer", "sidecar")
    permissive = policy("PERMISSIVE", selector="{app: server}", name="server")
    assert found(inbound(), STRICT, permissive, other) == set()


def test_a_workload_that_says_nothing_has_the_mode_of_its_namespace() -> None:
    unset = policy("UNSET", selector="{app: server}", name="server")
    assert found(inbound(), STRICT, unset) == set()


def test_a_strict_workload_does_not_make_a_permissive_namespace_right() -> None:
    bad = policy("PERMISSIVE # << permissive-inbound")
    strict = policy("STRICT", selector="{app: server}", name="server")
    assert found(bad, inbound(), strict) == marked(bad)


def test_a_selector_that_is_the_filters_own_decides() -> None:
    strict = policy("STRICT", selector="{meshkey.io/signer: enabled}", name="signers")
    assert found(inbound(), policy("PERMISSIVE"), strict) == set()


def test_a_port_with_another_mode_is_found() -> None:
    bad = policy(
        "STRICT",
        selector="{app: server}",
        name="server",
        ports="\n    8080:\n      mode: PERMISSIVE # << permissive-inbound"
        "\n    8081:\n      mode: DISABLE # << mtls-disabled\n    8082: {mode: UNSET}",
    )
    assert found(bad, inbound(), STRICT) == marked(bad)


def test_the_ports_of_a_whole_namespace_mean_nothing_to_istio() -> None:
    assert found(inbound(), policy("STRICT", ports="{8080: {mode: PERMISSIVE}}")) == set()


def test_a_selector_in_the_root_namespace_means_nothing_to_istio() -> None:
    permissive = policy("PERMISSIVE", namespace="istio-system", selector="{app: server}")
    assert found(inbound(), STRICT, permissive) == set()


def test_two_modes_for_a_namespace_are_found_and_the_oldest_counts() -> None:
    old = policy("STRICT", created="2026-01-01T00:00:00Z")
    young = """\
kind: PeerAuthentication
metadata:
  namespace: demo
  name: young # << competing-modes
  creationTimestamp: 2026-02-01T00:00:00Z
spec: {mtls: {mode: PERMISSIVE}}
"""
    assert found(young, old, inbound()) == marked(young)
