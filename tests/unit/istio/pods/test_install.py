"""Installation: istioctl's overlay and Helm's values say the same."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.istio.pods.install import install
from sidecar.istio.pods.template import templates
from tests.fixtures.istio_values import values


def documents(**changes: Any) -> dict[str, Any]:
    return {each.path: each.objects[0] for each in install(values(**changes))}


@pytest.mark.parametrize("revision", ["", "canary"])
def test_istioctl_and_helm_get_the_same(revision: str) -> None:
    istio = {"revision": revision, "namespace": "mesh"}
    made = documents(istio=istio)
    operator, helm = made["install/istioctl.yaml"]["spec"], made["install/istiod-values.yaml"]
    assert operator["values"]["sidecarInjectorWebhook"] == helm["sidecarInjectorWebhook"]
    assert operator["values"]["pilot"]["env"] == helm["env"]
    assert operator["values"]["global"] == helm["global"] == {"istioNamespace": "mesh"}
    assert operator["meshConfig"] == helm["meshConfig"] == {"trustDomain": "bank.example"}
    assert operator.get("revision", "") == helm.get("revision", "") == revision


def test_no_native_proxy_is_made_and_istios_own_templates_stay_as_they_are() -> None:
    helm = documents()["install/istiod-values.yaml"]
    assert helm["env"] == {"ENABLE_NATIVE_SIDECARS": "false"}
    assert helm["sidecarInjectorWebhook"] == {"templates": templates(values())}
    assert helm["sidecarInjectorWebhook"]["templates"].keys() == {"signer", "signer-gateway"}


def test_gateways_ask_for_both_templates_istios_first() -> None:
    made = documents()
    annotations = made["install/gateway-values.yaml"]["podAnnotations"]
    assert annotations == {"inject.istio.io/templates": "gateway,signer-gateway"}
    operator = made["install/istioctl.yaml"]["spec"]
    (gateway,) = operator["components"]["ingressGateways"]
    assert (gateway["name"], gateway["namespace"]) == ("ingress", "istio-ingress")
    injected = operator["values"]["gateways"]["istio-ingressgateway"]
    assert injected["injectionTemplate"] == "gateway,signer-gateway"


def test_without_gateways_nothing_is_said_of_them() -> None:
    made = documents(gateways=None)
    assert "install/gateway-values.yaml" not in made
    assert "components" not in made["install/istioctl.yaml"]["spec"]
    assert "gateways" not in made["install/istioctl.yaml"]["spec"]["values"]
