"""What gateways accept with mesh identities: their ISTIO_MUTUAL servers, which the values name.

Nothing in Istio's chains tells these from servers with certificates of their own, so a port and,
where it is shared, the hosts are needed. The module always asks for a client certificate: on a
server for browsers nobody could connect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecar.istio.document import Document
from sidecar.istio.mesh.chains import Chains, patched
from sidecar.istio.mesh.envoy_filter import Context, envoy_filter
from sidecar.istio.mesh.headers import GATEWAY_SCHEME
from sidecar.istio.mesh.waker import waker
from sidecar.istio.names import SIGNER_LABEL
from sidecar.istio.values import Gateway, MutualServer, Values

_ABOUT = """\
Connections to a gateway's ISTIO_MUTUAL servers: their mutual TLS is the module's. Servers with
certificates of their own are left alone.
"""


def gateway(values: Values) -> Sequence[Document]:
    """One document for each gateway: even without such servers it calls, and needs the waker."""
    return [_document(values, each) for each in values.gateways]


def _document(values: Values, each: Gateway) -> Document:
    selections = [chains for server in each.mutual for chains in _selections(server)]
    patches = [
        waker(Context.GATEWAY),
        *patched(selections, values.trust_domain, GATEWAY_SCHEME),
    ]
    name = f"meshkey-inbound-{each.name}"
    labels = {**each.labels, **SIGNER_LABEL}
    return Document(
        f"namespaces/{each.namespace}/inbound-{each.name}.yaml",
        _ABOUT,
        (envoy_filter(name, each.namespace, labels, patches),),
    )


def _selections(server: MutualServer) -> Iterator[Chains]:
    if not server.hosts:
        yield Chains(Context.GATEWAY, {"portNumber": server.port})
    for host in server.hosts:
        yield Chains(Context.GATEWAY, {"portNumber": server.port, "filterChain": {"sni": host}})
