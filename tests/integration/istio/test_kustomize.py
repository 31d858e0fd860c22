"""kustomize's own code on what is generated, and on what is committed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sidecar.istio.generate import files
from sidecar.istio.written import written
from tests.fixtures.istio_values import values
from tests.fixtures.istiod import kustomized
from tests.integration.istio.overlays import ROOT, VARIANTS

_DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "server", "namespace": "demo"},
    "spec": {
        "selector": {"matchLabels": {"app": "server"}},
        "template": {
            "metadata": {"labels": {"app": "server"}, "annotations": {"mine": "stays"}},
            "spec": {"containers": [{"name": "app", "image": "app"}]},
        },
    },
}


def keys(directory: Path) -> list[tuple[str, str | None, str]]:
    return sorted(
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in kustomized(directory)
    )


_BASES = sorted(
    file.parent
    for file in ROOT.rglob("kustomization.yaml")
    if yaml.safe_load(file.read_text(encoding="utf-8"))["kind"] == "Kustomization"
)


@pytest.mark.parametrize("base", _BASES, ids=lambda base: str(base.relative_to(ROOT)))
def test_every_base_is_built(base: Path) -> None:
    assert kustomized(base)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_root_applies_all_that_its_files_have(variant: str) -> None:
    files = (ROOT / variant / "namespaces").rglob("*.yaml")
    objects = [
        each
        for file in files
        if file.name != "kustomization.yaml"
        for each in yaml.safe_load_all(file.read_text())
    ]
    expected = sorted(
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in objects
    )
    assert expected
    assert keys(ROOT / variant) == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_network_policies_are_applied_by_themselves(variant: str) -> None:
    assert {kind for kind, _, _ in keys(ROOT / variant / "network")} == {"NetworkPolicy"}


def test_rights_come_with_the_root_where_there_are_any(tmp_path: Path) -> None:
    of = values(ca={"kind": "kubernetes", "signer": "a.b/c"})
    list(written(files(of), tmp_path))
    kinds = {kind for kind, _, _ in keys(tmp_path)}
    assert {"ClusterRole", "ClusterRoleBinding", "ConfigMap"} <= kinds


def test_the_component_asks_for_the_sidecar_and_changes_nothing_else(tmp_path: Path) -> None:
    list(written(files(values()), tmp_path / "meshkey"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "server.yaml").write_text(yaml.safe_dump(_DEPLOYMENT))
    kustomization = {"resources": ["server.yaml"], "components": ["../meshkey/inject"]}
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (made,) = kustomized(mine)
    annotations = made["spec"]["template"]["metadata"].pop("annotations")
    assert annotations == {"mine": "stays", "inject.istio.io/templates": "sidecar,signer"}
    unchanged = yaml.safe_load(yaml.safe_dump(_DEPLOYMENT))
    unchanged["spec"]["template"]["metadata"].pop("annotations")
    assert made == unchanged


def test_the_example_leads_its_own_pods_to_the_canary_and_asks_for_the_sidecar_in_them() -> None:
    made = {each["kind"]: each for each in kustomized(ROOT / "example")}
    assert made["Namespace"]["metadata"]["labels"] == {"istio.io/rev": "meshkey"}
    pods = made["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert pods == {"inject.istio.io/templates": "sidecar,signer"}
    assert {"ConfigMap", "EnvoyFilter", "PeerAuthentication"} <= made.keys()
    in_canary = {each["kind"] for each in kustomized(ROOT / "canary")}
    assert in_canary == made.keys() - {"Namespace", "ServiceAccount", "Service", "Deployment"}
