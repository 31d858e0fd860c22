"""Small objects that are right, to put wrong ones beside."""

from __future__ import annotations

EXACT = "peers: {spiffe_ids: [spiffe://bank.example/ns/demo/sa/server]}"
DOMAIN = "peers: {trust_domain: bank.example}"
STRICT = """\
---
kind: PeerAuthentication
metadata: {name: default, namespace: demo}
spec:
  mtls:
    mode: STRICT
"""
MESH = """\
---
kind: IstioOperator
spec:
  meshConfig: {trustDomain: bank.example}
"""


def socket(settings: str) -> str:
    """The module's, in one line."""
    return (
        "{name: envoy.transport_sockets.dynamic_modules, typed_config: {"
        f"transport_socket_name: meshkey, transport_socket_config: {{value: {{{settings}}}}}}}}}"
    )


def envoy_filter(*patches: str, labels: str = "{meshkey.io/signer: enabled}") -> str:
    """In namespace demo."""
    return f"""\
---
kind: EnvoyFilter
metadata: {{name: filter, namespace: demo}}
spec:
  workloadSelector:
    labels: {labels}
  configPatches:
{"".join(patches)}"""


def cluster(
    match: str = "{service: server.demo.svc.cluster.local}",
    settings: str = EXACT,
    context: str = "SIDECAR_OUTBOUND",
    mark: str = "",
) -> str:
    """The first patch of a cluster. `mark` is for its first line."""
    return f"""\
  - applyTo: CLUSTER {mark}
    match:
      context: {context}
      cluster: {match}
    patch:
      operation: MERGE
      value:
        transport_socket: {socket(settings)}
"""


def replaced(
    match: str = "{service: server.demo.svc.cluster.local}",
    settings: str = EXACT,
    context: str = "SIDECAR_OUTBOUND",
    operation: str = "MERGE_AND_REPLACE_LIST",
    mark: str = "",
) -> str:
    """The second one."""
    return f"""\
  - applyTo: CLUSTER {mark}
    match:
      context: {context}
      cluster: {match}
    patch:
      operation: {operation}
      value:
        transport_socket_matches:
        - {{name: meshkey, match: {{}}, transport_socket: {socket(settings)}}}
"""


def outbound(**changes: str) -> str:
    """Both patches, alike."""
    return envoy_filter(cluster(**changes), replaced(**changes))


def chain(match: str = "{transportProtocol: tls}", settings: str = DOMAIN, mark: str = "") -> str:
    """An inbound chain with our socket."""
    return f"""\
  - applyTo: FILTER_CHAIN {mark}
    match: {{context: SIDECAR_INBOUND, listener: {{filterChain: {match}}}}}
    patch:
      operation: MERGE
      value:
        transport_socket: {socket(settings)}
"""


def network_filter(
    name: str = "meshkey_peer",
    match: str = "{transportProtocol: tls}",
    operation: str = "INSERT_FIRST",
    mark: str = "",
) -> str:
    """On an inbound chain."""
    return f"""\
  - applyTo: NETWORK_FILTER {mark}
    match: {{context: SIDECAR_INBOUND, listener: {{filterChain: {match}}}}}
    patch: {{operation: {operation}, value: {{name: {name}}}}}
"""


def inbound(match: str = "{transportProtocol: tls}", mark: str = "") -> str:
    """A chain with all that belongs to it."""
    return envoy_filter(chain(match, mark=mark), network_filter(match=match))


def workload(name: str = "server", metadata: str = "", spec: str = "") -> str:
    """A Deployment of namespace demo that asks for the sidecar."""
    return f"""\
---
kind: Deployment
metadata: {{name: {name}, namespace: demo}}
spec:
  template:
    metadata:
      labels: {{app: {name}}}
      annotations:
        inject.istio.io/templates: sidecar,signer
{metadata}    spec:
      serviceAccountName: {name}
{spec}"""
