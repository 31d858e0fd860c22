"""install/: what istioctl and Helm make of it, with Istio's own charts."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sidecar.istio.generate import files
from sidecar.istio.written import written
from tests.fixtures.istio_installed import (
    GATEWAY,
    ISTIOD,
    Injector,
    Installed,
    by_helm,
    by_istioctl,
)
from tests.fixtures.istio_values import values
from tests.fixtures.istiod import Refused
from tests.integration.istio.overlays import ROOT, VARIANTS, WITH_GATEWAY
from tests.integration.istio.overlays import installed as overlay

_NEWEST = kubernetes_validate.latest_version()


@cache
def istioctl(variant: str) -> Installed:
    return by_istioctl(ROOT / variant / "install" / "istioctl.yaml")


@cache
def helm(variant: str) -> Installed:
    return by_helm(ISTIOD, overlay(variant, "istiod-values.yaml"))


def ingress(variant: str) -> list[Installed]:
    """The gateway, in variants with one."""
    if variant not in WITH_GATEWAY:
        return []
    return [by_helm(GATEWAY, overlay(variant, "gateway-values.yaml"), "ingress")]


@pytest.mark.parametrize("variant", VARIANTS)
def test_nobody_is_warned(variant: str) -> None:
    for installed in (istioctl(variant), helm(variant), *ingress(variant)):
        assert installed.warnings == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_istioctl_and_helm_configure_the_same_injector(variant: str) -> None:
    one, other = Injector.of(istioctl(variant)), Injector.of(helm(variant))
    assert one.configuration == other.configuration
    assert one.mesh == other.mesh
    assert one.environment["ENABLE_NATIVE_SIDECARS"] == "false"
    assert other.environment["ENABLE_NATIVE_SIDECARS"] == "false"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_injector_has_our_templates_beside_istios(variant: str) -> None:
    templates = Injector.of(istioctl(variant)).configuration["templates"]
    assert {"sidecar", "gateway", "signer", "signer-gateway"} <= templates.keys()


@pytest.mark.parametrize("variant", WITH_GATEWAY)
def test_every_gateway_asks_for_our_template(variant: str) -> None:
    for installed in (istioctl(variant), *ingress(variant)):
        template = installed.find("Deployment", "ingress")["spec"]["template"]
        asked_for = template["metadata"]["annotations"]["inject.istio.io/templates"]
        assert asked_for == "gateway,signer-gateway"


@pytest.mark.parametrize("variant", VARIANTS)
def test_kubernetes_takes_what_is_installed(variant: str) -> None:
    """But for what Istio's own charts write as null, which an API server drops."""
    for installed in (helm(variant), *ingress(variant)):
        for each in installed.objects:
            kubernetes_validate.validate(without_null(each), _NEWEST, strict=True)


def without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_null(each) for key, each in value.items() if each is not None}
    return [without_null(each) for each in value] if isinstance(value, list) else value


def test_the_mesh_has_the_trust_domain_of_the_values(tmp_path: Path) -> None:
    list(written(files(values()), tmp_path))
    installed = by_istioctl(tmp_path / "install" / "istioctl.yaml")
    assert yaml.safe_load(Injector.of(installed).mesh)["trustDomain"] == "bank.example"


def test_a_misspelt_field_is_refused_by_istioctl(tmp_path: Path) -> None:
    file = tmp_path / "istioctl.yaml"
    content = overlay("softhsm2", "istioctl.yaml")
    content["spec"]["componets"] = {}
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(Refused, match="componets"):
        by_istioctl(file)
