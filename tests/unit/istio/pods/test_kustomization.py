"""kustomization.yaml files: what is applied with what."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import yaml

from sidecar.istio.document import Document
from sidecar.istio.generate import generated
from sidecar.istio.pods.kustomization import kustomized
from tests.fixtures.istio_values import values


def kustomizations(*paths: str) -> dict[str, Any]:
    documents = [Document(path, "", ({"kind": "A"},)) for path in paths]
    return {each.path: each.objects[0] for each in kustomized(documents)}


def test_the_root_applies_namespaces_and_cluster_and_each_of_them_by_itself() -> None:
    made = kustomizations("namespaces/a/x.yaml", "namespaces/a/y.yaml", "cluster/z.yaml")
    assert made["kustomization.yaml"]["resources"] == ["cluster", "namespaces/a"]
    assert made["namespaces/a/kustomization.yaml"]["resources"] == ["x.yaml", "y.yaml"]
    assert made["cluster/kustomization.yaml"]["resources"] == ["z.yaml"]


def test_network_policies_are_applied_on_purpose_only() -> None:
    made = kustomizations("namespaces/a/x.yaml", "network/a.yaml")
    assert made["kustomization.yaml"]["resources"] == ["namespaces/a"]
    assert made["network/kustomization.yaml"]["resources"] == ["a.yaml"]


def test_what_is_installed_by_others_is_not_applied() -> None:
    assert kustomizations("install/istioctl.yaml")["kustomization.yaml"]["resources"] == []


def test_the_component_asks_for_the_sidecar_in_every_kind_of_workload() -> None:
    component = kustomizations()["inject/kustomization.yaml"]
    assert component["kind"] == "Component"
    assert [each["target"]["kind"] for each in component["patches"]] == [
        "Deployment",
        "StatefulSet",
        "DaemonSet",
    ]
    for each in component["patches"]:
        pod = yaml.safe_load(each["patch"])["spec"]["template"]
        assert pod == {"metadata": {"annotations": {"inject.istio.io/templates": "sidecar,signer"}}}


def test_every_resource_that_is_generated_is_reached_from_exactly_one_place() -> None:
    documents = {each.path: each for each in generated(values())}
    reached: list[str] = []
    for root in ("kustomization.yaml", "network/kustomization.yaml"):
        reached += _resources(root, documents)
    applied = [
        path
        for path in documents
        if PurePosixPath(path).parts[0] not in {"install", "inject"}
        and not path.endswith("kustomization.yaml")
    ]
    assert sorted(reached) == sorted(applied)


def _resources(path: str, documents: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for name in documents[path].objects[0]["resources"]:
        below = PurePosixPath(path).parent / name
        inner = str(below / "kustomization.yaml")
        found += _resources(inner, documents) if inner in documents else [str(below)]
    return found
