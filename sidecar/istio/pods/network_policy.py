"""NetworkPolicies for clusters that deny what is not allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sidecar.istio.document import Document, Object, metadata
from sidecar.istio.names import SIGNER_LABEL
from sidecar.istio.pods.authority import authority_pod
from sidecar.istio.values import CaKind, Values

_Peer = Mapping[str, Any]
_ABOUT = """\
What a sidecar needs to reach: names, istiod (for its own CA, and for the proxy beside it), and
the CA if that is another.

Apply it only where egress of these pods is denied by default already. A NetworkPolicy selects
pods, not containers, and a pod that is selected for egress may reach what policies allow and
nothing else: alone, this one would cut the applications off. Ingress needs none: the sidecar has
no port.
"""


def network_policies(values: Values) -> Sequence[Document]:
    """One file for each namespace, in a directory that is applied by itself."""
    return [
        Document(f"network/{namespace}.yaml", _ABOUT, (_policy(values, namespace),))
        for namespace in values.signer_namespaces
    ]


def _policy(values: Values, namespace: str) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata("meshkey-sidecar", namespace),
        "spec": {
            "podSelector": {"matchLabels": dict(SIGNER_LABEL)},
            "policyTypes": ["Egress"],
            "egress": list(_routes(values)),
        },
    }


def _routes(values: Values) -> Iterator[Mapping[str, Any]]:
    yield _route(_pods("kube-system", {"k8s-app": "kube-dns"}), ("UDP", 53), ("TCP", 53))
    control_plane = {"app": "istiod", "istio.io/rev": values.istio.revision or "default"}
    yield _route(_pods(values.istio.namespace, control_plane), ("TCP", 15012))
    if values.ca.kind is CaKind.ISTIO_CSR:
        # The port of the pod, behind 443 of its Service.
        yield _route(_pods("cert-manager", {"app": "cert-manager-istio-csr"}), ("TCP", 6443))
    if authority_pod(values).uses_api:
        # No selector says where the API server is: it is no pod, or one with the host's network.
        yield {"ports": [_port("TCP", 443), _port("TCP", 6443)]}


def _route(peer: _Peer, *ports: tuple[str, int]) -> Mapping[str, Any]:
    return {"to": [peer], "ports": [_port(*each) for each in ports]}


def _pods(namespace: str, labels: Mapping[str, str]) -> _Peer:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }


def _port(protocol: str, number: int) -> Mapping[str, Any]:
    return {"protocol": protocol, "port": number}
