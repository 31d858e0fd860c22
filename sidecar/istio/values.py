"""The values that everything for Istio is written from: what a mesh operator has to say.

```yaml
trust_domain: cluster.local
istio: {namespace: istio-system, revision: ""}
images: {meshkey: registry.example/meshkey:0.6.0, proxy: registry.example/proxyv2-meshkey:1.32.0}
token: softhsm2                       # softhsm2, tpm2 or sgx-ctk
ca: {kind: istiod}                    # istiod, istio-csr, or kubernetes with a signer
namespaces:
- {name: demo, mtls: strict}          # strict or permissive
services:                             # what these namespaces and gateways call, and who answers
- host: server.demo.svc.cluster.local
  ports: [{number: 8000, protocol: http}]
  service_accounts: [demo/server]
gateways:
- {name: ingress, namespace: istio-ingress, labels: {istio: ingress}}
  # mutual: [{port: 15443, hosts: [a.example]}]   its ISTIO_MUTUAL servers
```

docs/istio-values.md lists every value there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sidecar.core.spiffe import SpiffeId


class Token(StrEnum):
    """Which token the sidecars use."""

    SOFTHSM2 = "softhsm2"
    TPM2 = "tpm2"
    SGX_CTK = "sgx-ctk"


class Mtls(StrEnum):
    """What a namespace's workloads accept: the mode of its PeerAuthentication."""

    STRICT = "strict"
    PERMISSIVE = "permissive"


class CaKind(StrEnum):
    """Who signs the sidecars' CSRs."""

    ISTIOD = "istiod"
    ISTIO_CSR = "istio-csr"
    KUBERNETES = "kubernetes"


class Protocol(StrEnum):
    """What a service's port speaks: it decides the ALPN."""

    HTTP = "http"
    TCP = "tcp"


@dataclass(frozen=True)
class Istio:
    """The control plane. `revision` is empty for the default one."""

    namespace: str = "istio-system"
    revision: str = ""


@dataclass(frozen=True)
class Images:
    """`proxy` is an istio/proxyv2 whose Envoy has the dynamic-module transport socket."""

    meshkey: str
    proxy: str


@dataclass(frozen=True)
class Ca:
    """`signer` is the Kubernetes signerName, for `CaKind.KUBERNETES` alone.

    `trust_bundle` is the ClusterTrustBundle with that signer's roots; without it they are those
    that Istio mounts into each pod.
    """

    kind: CaKind = CaKind.ISTIOD
    signer: str | None = None
    trust_bundle: str | None = None


@dataclass(frozen=True)
class Namespace:
    """Whose pods may have the sidecar injected."""

    name: str
    mtls: Mtls = Mtls.STRICT


@dataclass(frozen=True)
class Port:
    """One port of a service."""

    number: int
    protocol: Protocol = Protocol.HTTP


@dataclass(frozen=True)
class Service:
    """A host that is called, and exactly who may answer for it."""

    host: str
    ports: tuple[Port, ...]
    peers: tuple[SpiffeId, ...]


@dataclass(frozen=True)
class MutualServer:
    """A server of TLS mode ISTIO_MUTUAL.

    `port`: the pod's. `hosts`: as the Gateway has them; empty if all servers of the port are such.
    """

    port: int
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gateway:
    """A gateway of Istio's gateway chart, by its pods' labels."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    mutual: tuple[MutualServer, ...] = ()


@dataclass(frozen=True)
class Values:
    """All of it. `policies` are files with the AuthorizationPolicies that name principals.

    `devices` are resources of device plugins, by their names, in place of those that the kind of
    token asks for by default. `node_profiles`: whether the seccomp and AppArmor profiles of
    `node/` are on the nodes.
    """

    trust_domain: str
    images: Images
    istio: Istio
    token: Token
    ca: Ca
    namespaces: tuple[Namespace, ...]
    services: tuple[Service, ...]
    gateways: tuple[Gateway, ...]
    policies: tuple[Path, ...]
    devices: Mapping[str, str] | None = None
    node_profiles: bool = False

    @property
    def signer_namespaces(self) -> tuple[str, ...]:
        """Namespaces with pods that have a sidecar of ours."""
        names = [namespace.name for namespace in self.namespaces]
        return tuple(dict.fromkeys([*names, *(gateway.namespace for gateway in self.gateways)]))
