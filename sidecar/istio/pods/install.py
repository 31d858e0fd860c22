"""Installing istiod and gateways: the same with istioctl and with Helm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.istio.document import Document, Object
from sidecar.istio.pods.template import GATEWAY_TEMPLATES, templates
from sidecar.istio.values import Gateway, Values

_NATIVE = """\
ENABLE_NATIVE_SIDECARS is false for every pod of this control plane: a native istio-proxy starts
before the sidecar that it waits for. Without it, the template `signer` refuses pods that are not
annotated with sidecar.istio.io/nativeSidecar: "false".
"""
_ISTIOCTL = f"""\
For istioctl, beside your own: istioctl install -f YOURS.yaml -f istioctl.yaml

{_NATIVE}"""
_ISTIOD = f"""\
For Istio's Helm chart istiod, beside your own: helm upgrade istiod istio/istiod -f YOURS.yaml
-f istiod-values.yaml

{_NATIVE}"""
_GATEWAY = """\
For Istio's Helm chart gateway, beside your own: helm upgrade NAME istio/gateway -f YOURS.yaml
-f gateway-values.yaml
"""


def install(values: Values) -> Sequence[Document]:
    """Not for kubectl."""
    documents = [
        Document("install/istioctl.yaml", _ISTIOCTL, (_operator(values),)),
        Document("install/istiod-values.yaml", _ISTIOD, (_istiod(values),)),
    ]
    if values.gateways:
        documents.append(Document("install/gateway-values.yaml", _GATEWAY, (_gateway(values),)))
    return documents


def _operator(values: Values) -> Object:
    gateways = [_ingress(each) for each in values.gateways]
    return {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "metadata": {"name": "meshkey", "namespace": values.istio.namespace},
        "spec": {
            **_revision(values),
            "meshConfig": _mesh(values),
            **({"components": {"ingressGateways": gateways}} if gateways else {}),
            "values": {
                "global": _global(values),
                "pilot": {"env": _environment()},
                "sidecarInjectorWebhook": {"templates": dict(templates(values))},
                **({"gateways": _injected_gateways()} if gateways else {}),
            },
        },
    }


def _ingress(gateway: Gateway) -> Object:
    return {
        "name": gateway.name,
        "namespace": gateway.namespace,
        "enabled": True,
        "label": dict(gateway.labels),
    }


def _istiod(values: Values) -> Object:
    return {
        **_revision(values),
        "global": _global(values),
        "meshConfig": _mesh(values),
        "env": _environment(),
        "sidecarInjectorWebhook": {"templates": dict(templates(values))},
    }


def _gateway(values: Values) -> Object:
    return {
        **_revision(values),
        "podAnnotations": {"inject.istio.io/templates": GATEWAY_TEMPLATES},
    }


def _revision(values: Values) -> Mapping[str, str]:
    return {"revision": values.istio.revision} if values.istio.revision else {}


def _global(values: Values) -> Mapping[str, str]:
    return {"istioNamespace": values.istio.namespace}


def _mesh(values: Values) -> Mapping[str, str]:
    # The lists of peers have it in them: another one in the mesh would be refused by all.
    return {"trustDomain": values.trust_domain}


def _environment() -> Mapping[str, str]:
    return {"ENABLE_NATIVE_SIDECARS": "false"}


def _injected_gateways() -> Mapping[str, Any]:
    # istioctl's own gateways are not injected, and have no templates, unless one is named.
    return {"istio-ingressgateway": {"injectionTemplate": GATEWAY_TEMPLATES}}
