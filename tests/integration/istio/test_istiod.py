"""The judge itself: it does what Istio does, and says so when it is asked nonsense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures import istiod
from tests.fixtures.istio_installed import ISTIOD, Injector, by_helm
from tests.fixtures.istiod import Proxy, Refused, given, kustomized, validated

PROXY = Proxy("server.demo", "10.0.0.1", "demo", "server", {"app": "server"})
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "server", "namespace": "demo"},
    "spec": {"containers": [{"name": "app", "image": "app"}]},
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "server", "namespace": "demo"},
    "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 8000}]},
}
CLUSTER = "outbound|8000||server.demo.svc.cluster.local"


def envoy_filter(value: dict[str, Any], **more: Any) -> dict[str, Any]:
    """That merges into the cluster of the service's port."""
    patch = {
        "applyTo": "CLUSTER",
        "match": {"cluster": {"service": "server.demo.svc.cluster.local"}},
        "patch": {"operation": "MERGE", "value": value},
    }
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "slower", "namespace": "demo"},
        "spec": {"configPatches": [patch], **more},
    }


def timeout(config: list[dict[str, Any]]) -> str:
    answer = given({"it": PROXY}, [SERVICE], config)["it"]
    (cluster,) = [each for each in answer.clusters if each["name"] == CLUSTER]
    found: str = cluster["connect_timeout"]
    return found


def test_an_envoy_filter_changes_the_cluster_that_it_matches() -> None:
    assert timeout([]) == "10s"
    assert timeout([envoy_filter({"connect_timeout": "42s"})]) == "42s"


def test_a_listener_a_route_and_an_endpoint_are_given_too() -> None:
    answer = given({"it": PROXY}, [SERVICE])["it"]
    assert "virtualInbound" in {each["name"] for each in answer.listeners}
    assert "8000" in {each["name"] for each in answer.routes}
    assert CLUSTER in {each["cluster_name"] for each in answer.endpoints}


def test_a_filter_that_istio_refuses_is_named() -> None:
    unknown = {"transport_socket": {"name": "a", "typed_config": {"@type": "a.b/none.Such"}}}
    with pytest.raises(Refused, match=r"EnvoyFilter slower: .*none\.Such"):
        timeout([envoy_filter(unknown)])
    with pytest.raises(Refused, match=r"EnvoyFilter slower: .*workloadSelecter"):
        timeout([envoy_filter({"connect_timeout": "42s"}, workloadSelecter={})])


def test_validation_says_what_is_wrong_with_which_object() -> None:
    misspelt = envoy_filter({"connect_timeout": "42s"}, workloadSelecter={})
    # Istio itself only warns of these, and merges the rest.
    warned = envoy_filter({"conect_timeout": "42s"})
    said = validated([envoy_filter({"connect_timeout": "42s"}), misspelt, warned, SERVICE])
    assert {(each.kind, each.namespace, each.name) for each in said[:3]} == {
        ("EnvoyFilter", "demo", "slower")
    }
    assert said[0].error == ""
    assert "workloadSelecter" in said[1].error
    assert said[2].error == ""
    assert 'unknown field "conect_timeout"' in said[2].warning
    assert "none of Istio's objects" in said[3].error


@pytest.mark.parametrize(
    ("kubernetes", "config", "said"),
    [
        ([{**SERVICE, "spec": {"clusterip": "None"}}], [], 'unknown field "spec.clusterip"'),
        ([{**SERVICE, "kind": "Servise"}], [], "Servise"),
        ([envoy_filter({})], [], "EnvoyFilter: Istio's objects are not read"),
        ([], [SERVICE], "Service server: none of Istio's objects"),
    ],
)
def test_what_istiod_would_leave_out_without_a_word_is_refused(
    kubernetes: list[dict[str, Any]], config: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(Refused, match=said):
        given({"it": PROXY}, kubernetes, config)


def test_a_kind_of_proxy_that_there_is_not_is_refused() -> None:
    proxy = Proxy("server.demo", "10.0.0.1", "demo", "server", type="gateway")
    with pytest.raises(Refused, match='type "gateway" is neither sidecar nor router'):
        given({"it": proxy})


def test_a_pod_gets_istios_own_proxy_and_keeps_what_it_has() -> None:
    made = Injector.of(by_helm(ISTIOD, {})).inject(POD)
    assert [each["name"] for each in made["spec"]["containers"]] == ["app", "istio-proxy"]


def test_a_pod_that_asks_for_a_template_that_there_is_not_is_refused() -> None:
    annotations = {"inject.istio.io/templates": "sidecar,singer"}
    pod = {**POD, "metadata": {"name": "a", "namespace": "demo", "annotations": annotations}}
    with pytest.raises(Refused, match="singer"):
        Injector.of(by_helm(ISTIOD, {})).inject(pod)


def test_a_pod_of_which_istio_leaves_its_hands_is_an_error_here() -> None:
    labels = {"sidecar.istio.io/inject": "false"}
    pod = {**POD, "metadata": {"name": "a", "namespace": "demo", "labels": labels}}
    with pytest.raises(Refused, match="the webhook leaves this pod alone"):
        Injector.of(by_helm(ISTIOD, {})).inject(pod)


def test_a_kustomization_is_built_or_refused(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [service.yaml]\nnamespace: other\n")
    (tmp_path / "service.yaml").write_text(yaml.safe_dump(SERVICE))
    (built,) = kustomized(tmp_path)
    assert built["metadata"]["namespace"] == "other"
    (tmp_path / "service.yaml").unlink()
    with pytest.raises(Refused, match=r"service\.yaml"):
        kustomized(tmp_path)


def test_who_has_not_built_it_is_told_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(istiod, "_ROOT", tmp_path)
    monkeypatch.setattr(istiod, "_PROGRAM", tmp_path / "build" / "istiod")
    with pytest.raises(FileNotFoundError, match="make build/istiod"):
        validated([])
