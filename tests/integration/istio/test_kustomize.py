"""kustomize builds the overlays, and the component that asks for the sidecar."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.fixtures import istiod
from tests.integration.istio.overlays import ROOT, VARIANTS, objects

_DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "server", "namespace": "demo"},
    "spec": {
        "selector": {"matchLabels": {"app": "server"}},
        "template": {
            "metadata": {"labels": {"app": "server"}},
            "spec": {"containers": [{"name": "app", "image": "registry.example/app:1"}]},
        },
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_apply_k_sends_every_object_of_the_namespaces_and_the_cluster(variant: str) -> None:
    sent = istiod.kustomized(ROOT / variant)
    written = [
        each.document
        for each in objects(variant)
        if each.file.relative_to(ROOT / variant).parts[0] in {"namespaces", "cluster"}
    ]
    assert sorted(map(_key, sent)) == sorted(map(_key, written))


@pytest.mark.parametrize("variant", VARIANTS)
def test_network_policies_are_applied_on_purpose_only(variant: str) -> None:
    assert not [
        each for each in istiod.kustomized(ROOT / variant) if each["kind"] == "NetworkPolicy"
    ]
    sent = istiod.kustomized(ROOT / variant / "network")
    assert {each["kind"] for each in sent} == {"NetworkPolicy"}


def test_the_component_asks_for_the_sidecar_in_the_kustomization_that_names_it(
    tmp_path: Path,
) -> None:
    # Below the overlays' own directory kustomize takes relative paths only.
    (tmp_path / "inject").symlink_to(ROOT / "softhsm2" / "inject")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "server.yaml").write_text(yaml.safe_dump(_DEPLOYMENT))
    (tmp_path / "app" / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["server.yaml"], "components": ["../inject"]})
    )
    (built,) = istiod.kustomized(tmp_path / "app")
    annotations = built["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"inject.istio.io/templates": "sidecar,signer"}


def _key(each: dict[str, object]) -> tuple[str, str, str]:
    metadata = each["metadata"]
    assert isinstance(metadata, dict)
    return str(each["kind"]), str(metadata.get("namespace", "")), str(metadata["name"])
