from __future__ import annotations

import pytest

from tests.fixtures.marked import found, marked
from tests.unit.istio.check.rules.texts import cluster, envoy_filter, outbound, replaced

HOST = "server.demo.svc.cluster.local"


def rules(*texts: str) -> set[str]:
    return {rule for _, _, rule in found(*texts)}


def test_two_patches_for_a_service_are_right() -> None:
    assert found(outbound()) == set()
    assert found(outbound(context="GATEWAY")) == set()


@pytest.mark.parametrize("context", ["SIDECAR_INBOUND", "ANY"])
def test_a_context_that_has_other_clusters_is_found(context: str) -> None:
    first = cluster(context=f"{context} # << cluster-context")
    second = replaced(context=f"{context} # << cluster-context")
    bad = envoy_filter(first, second)
    assert found(bad) == marked(bad)


@pytest.mark.parametrize("match", ["{}", "{portNumber: 443}", "{subset: v1}"])
def test_a_patch_for_every_cluster_is_found(match: str) -> None:
    mark = "# << unmatched-cluster"
    bad = envoy_filter(cluster(match, mark=mark), replaced(match, mark=mark))
    assert found(bad) == marked(bad)


@pytest.mark.parametrize("name", ["PassthroughCluster", "BlackHoleCluster"])
def test_a_cluster_of_istios_own_is_found(name: str) -> None:
    match = f"{{name: {name}}} # << identity-leaves-mesh"
    bad = envoy_filter(cluster(match), replaced(match))
    assert found(bad) == marked(bad)


@pytest.mark.parametrize(
    ("match", "leaks"),
    [
        ("{service: api.shop.example}", True),
        ("{service: a.pay.example}", True),
        ('{name: "outbound|443||api.shop.example"}', True),
        ("{service: shop.example}", False),
    ],
)
def test_a_host_outside_of_the_mesh_is_found(match: str, leaks: bool) -> None:
    entry = """\
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [api.shop.example, "*.pay.example"]
  location: MESH_EXTERNAL
"""
    match += " # << identity-leaves-mesh"
    calls = envoy_filter(cluster(match), replaced(match))
    assert found(calls, entry) == (marked(calls) if leaks else set())
    assert found(calls, entry.replace("MESH_EXTERNAL", "MESH_INTERNAL")) == set()
    unsaid = entry.replace("  location: MESH_EXTERNAL\n", "")
    assert found(calls, unsaid) == (marked(calls) if leaks else set())


@pytest.mark.parametrize(
    "patches",
    [
        (cluster(mark="# << incomplete-cluster-patch"),),
        (replaced(mark="# << incomplete-cluster-patch"),),
        (cluster(mark="# << incomplete-cluster-patch"), replaced(operation="MERGE")),
        (
            cluster(mark="# << incomplete-cluster-patch"),
            replaced("{service: a.demo.svc}", mark="# << incomplete-cluster-patch"),
        ),
    ],
)
def test_one_patch_without_the_other_is_found(patches: tuple[str, ...]) -> None:
    bad = envoy_filter(*patches)
    assert found(bad) == marked(bad)


def test_the_wrong_order_of_the_two_is_found() -> None:
    bad = envoy_filter(replaced(), cluster(mark="# << cluster-patch-order"))
    assert found(bad) == marked(bad)


def destination(traffic: str, host: str = HOST) -> str:
    return f"""\
---
kind: DestinationRule
metadata: {{name: server, namespace: demo}}
spec:
  host: "{host}"
{traffic}"""


@pytest.mark.parametrize("mode", ["DISABLE", "SIMPLE", "MUTUAL"])
@pytest.mark.parametrize("host", [HOST, "server", "*.demo.svc.cluster.local"])
def test_a_destination_rule_with_other_tls_is_found(mode: str, host: str) -> None:
    rule = destination(
        f"""\
  trafficPolicy:
    tls:
      mode: {mode} # << destination-rule-tls
    portLevelSettings:
    - port: {{number: 8000}}
      tls:
        mode: {mode} # << destination-rule-tls
  subsets:
  - name: v1
    trafficPolicy:
      tls:
        mode: {mode} # << destination-rule-tls
""",
        host,
    )
    assert found(rule, outbound()) == marked(rule)


def test_other_destination_rules_are_right() -> None:
    mutual = destination("  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n  subsets: [{name: v1}]\n")
    foreign = destination("  trafficPolicy: {tls: {mode: SIMPLE}}\n", "api.shop.example")
    assert found(mutual, foreign, outbound()) == set()


def test_a_patch_without_our_socket_is_nobodys_business() -> None:
    other = envoy_filter(cluster("{}").replace("meshkey", "other"))
    assert found(other) == set()


def test_both_spellings_of_protobufs_names_are_read() -> None:
    spelled = cluster("{}", mark="# << unmatched-cluster").replace("_socket:", "Socket:")
    spelled = spelled.replace("typed_config", "typedConfig").replace(
        "transport_socket_name", "transportSocketName"
    )
    bad = envoy_filter(spelled, replaced("{}", mark="# << unmatched-cluster"))
    assert found(bad) == marked(bad)
