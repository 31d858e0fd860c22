"""What the kinds of CA need: settings, mounts, environment, rights and routes, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.istio.pods.volumes import (
    API_ACCESS,
    API_DIRECTORY,
    ISTIO_TOKEN,
    ISTIO_TOKEN_DIRECTORY,
    Mounted,
)
from sidecar.istio.values import CaKind, Values

_ISTIO_TOKEN = Mounted(ISTIO_TOKEN, ISTIO_TOKEN_DIRECTORY, read_only=True)
# As Istio's own agent is told it, so that both name the cluster alike.
_CLUSTER_ID = "{{ valueOrDefault .Values.global.multiCluster.clusterName `Kubernetes` }}"


@dataclass(frozen=True)
class AuthorityPod:
    """`settings` go into `[ca]`; `environment` into the container, with Istio's template words.

    `uses_api`: the sidecar talks to the Kubernetes API.
    """

    settings: Mapping[str, str]
    volumes: tuple[Mounted, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    uses_api: bool = False


def authority_pod(values: Values) -> AuthorityPod:
    """What the mesh's CA needs of a pod."""
    match values.ca.kind:
        case CaKind.ISTIOD:
            revision = f"-{values.istio.revision}" if values.istio.revision else ""
            return _istio(f"istiod{revision}.{values.istio.namespace}.svc:15012")
        case CaKind.ISTIO_CSR:
            return _istio("cert-manager-istio-csr.cert-manager.svc:443")
        case CaKind.KUBERNETES:
            return AuthorityPod(
                settings={"kind": "kubernetes", "signer_name": str(values.ca.signer)},
                volumes=(Mounted(API_ACCESS, API_DIRECTORY, read_only=True),),
                uses_api=True,
            )


def _istio(address: str) -> AuthorityPod:
    return AuthorityPod(
        settings={"kind": "istio", "address": address},
        volumes=(_ISTIO_TOKEN,),
        environment={"MESHKEY_CA_CLUSTER_ID": _CLUSTER_ID},
    )
