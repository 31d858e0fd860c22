"""The injection templates: what istiod merges onto a pod after its own template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sidecar.istio.document import dumped
from sidecar.istio.names import PROXY_GROUP, PROXY_USER, SIGNER_LABEL
from sidecar.istio.pods import proxy_container, setup_container, sidecar_container
from sidecar.istio.pods.tokens import token_pod
from sidecar.istio.pods.volumes import CONFIG, MODULE, PEERS, SETUP, SOCKETS, STORE, Volume
from sidecar.istio.values import Values

WORKLOAD = "signer"
GATEWAY = "signer-gateway"
# As a pod's annotation inject.istio.io/templates has it: Istio's own first.
WORKLOAD_TEMPLATES = f"sidecar,{WORKLOAD}"
GATEWAY_TEMPLATES = f"gateway,{GATEWAY}"


@dataclass(frozen=True)
class _Refusal:
    """Where the condition holds the pod is not made, and who made it is told why."""

    condition: str
    reason: str

    def text(self) -> str:
        # A text in JSON is one in Go.
        action = f"fail {json.dumps(self.reason)}"
        return f"{{{{- if {self.condition} }}}}\n{{{{- {action} }}}}\n{{{{- end }}}}\n"


# Istio's injector puts a native proxy before every other init container, so before the sidecar
# that it waits for. It decides by the pod's annotation as submitted: no template can change it.
_NATIVE_PROXY = _Refusal(
    "ne (index .ObjectMeta.Annotations `sidecar.istio.io/nativeSidecar`"
    ' | default (toString .NativeSidecars)) "false"',
    "meshkey: a native istio-proxy would wait for its own signer, which starts after it: annotate "
    'the pod with sidecar.istio.io/nativeSidecar: "false", or install istiod with '
    "ENABLE_NATIVE_SIDECARS=false",
)
# Then Istio makes its proxy root. No rule of ours is for root.
_ROOT_PROXY = _Refusal(
    "or (eq (annotation .ObjectMeta `sidecar.istio.io/interceptionMode`"
    " .ProxyConfig.InterceptionMode) `TPROXY`)"
    " (eq (annotation .ObjectMeta `sidecar.istio.io/capNetBindService`"
    ' .Values.global.proxy.capNetBindService) "true")',
    "meshkey: with interceptionMode TPROXY, or capNetBindService, istio-proxy is root, for whom "
    "nothing is signed: use REDIRECT, and ports above 1023",
)
_OTHER_PROXY = _Refusal(
    f"or (ne .ProxyUID {PROXY_USER}) (ne .ProxyGID {PROXY_GROUP})",
    f"meshkey: istio-proxy would run as another user or group than {PROXY_USER}, for whom "
    "nothing is signed: remove the namespace's annotations of preallocated user ranges",
)


def templates(values: Values) -> Mapping[str, str]:
    """The text of each template, by its name."""
    body = _body(values)
    return {
        WORKLOAD: _with((_NATIVE_PROXY, _ROOT_PROXY, _OTHER_PROXY), body),
        # Istio's own template for gateways knows neither native proxies nor interception.
        GATEWAY: _with((_OTHER_PROXY,), body),
    }


def _with(refusals: Sequence[_Refusal], body: str) -> str:
    return "".join(each.text() for each in refusals) + body


def _body(values: Values) -> str:
    return dumped(
        {
            "metadata": {"labels": dict(SIGNER_LABEL)},
            "spec": {
                "initContainers": [
                    setup_container.container(values),
                    sidecar_container.container(values),
                ],
                "containers": [proxy_container.container(values)],
                "volumes": list(_volumes(values)),
            },
        }
    )


def _volumes(values: Values) -> Sequence[Volume]:
    """Those that Istio's templates do not define, each once."""
    everything = (
        *(SOCKETS, MODULE, STORE, CONFIG, PEERS),
        *(each.volume for each in (*SETUP, *sidecar_container.mounted(values))),
        *(each.volume for each in token_pod(values).setup_volumes),
    )
    return list({each["name"]: each for each in everything if len(each) > 1}.values())
