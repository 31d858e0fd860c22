"""What workloads and gateways call: an EnvoyFilter for each namespace and each gateway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecar.istio.document import Document
from sidecar.istio.mesh.envoy_filter import Context, Operation, envoy_filter, patch
from sidecar.istio.mesh.module import Json, transport_socket
from sidecar.istio.names import PEERS_FILE, SIGNER_LABEL
from sidecar.istio.values import Port, Protocol, Service, Values

_ABOUT = """\
Calls to the services that the values name: mutual TLS with the module, and only the service
accounts that meshkey-peers lists may answer. A DestinationRule's trafficPolicy.tls for these hosts
has no effect. No other cluster is touched.
"""

# What Istio's listeners tell HTTP, other traffic and foreign TLS apart by.
_ALPN = {
    Protocol.HTTP: ("istio-http/1.1", "istio-h2", "istio"),
    Protocol.TCP: ("istio",),
}


def outbound(values: Values) -> Sequence[Document]:
    """Nothing where no service is named."""
    if not values.services:
        return []
    return [*_of_namespaces(values), *_of_gateways(values)]


def _of_namespaces(values: Values) -> Iterator[Document]:
    patches = list(_patches(Context.OUTBOUND, values.services))
    for namespace in values.namespaces:
        filters = envoy_filter("meshkey-outbound", namespace.name, SIGNER_LABEL, patches)
        yield Document(f"namespaces/{namespace.name}/outbound.yaml", _ABOUT, (filters,))


def _of_gateways(values: Values) -> Iterator[Document]:
    patches = list(_patches(Context.GATEWAY, values.services))
    for gateway in values.gateways:
        name = f"meshkey-outbound-{gateway.name}"
        labels = {**gateway.labels, **SIGNER_LABEL}
        filters = envoy_filter(name, gateway.namespace, labels, patches)
        path = f"namespaces/{gateway.namespace}/outbound-{gateway.name}.yaml"
        yield Document(path, _ABOUT, (filters,))


def _patches(context: Context, services: Sequence[Service]) -> Iterator[Json]:
    for service in services:
        for port in service.ports:
            yield from _cluster(context, service.host, port)


def _cluster(context: Context, host: str, port: Port) -> Iterator[Json]:
    """All subsets of a service's port.

    A cluster has one socket, or several by its endpoints' labels (automatic mutual TLS). Istio
    drops the first patch for the latter, so the second replaces their list. The other way round
    the first would leave Istio's own socket in reach: as what is used when nothing matches.
    """
    match = {"cluster": {"service": host, "portNumber": port.number}}
    socket = transport_socket(
        alpn=_ALPN[port.protocol],
        # Without the subset, which only a gateway of another network reads.
        sni=f"outbound_.{port.number}_._.{host}",
        peers={"file": PEERS_FILE, "entry": host},
    )
    for_all = {"name": "meshkey", "match": {}, "transport_socket": socket}
    yield patch("CLUSTER", context, match, Operation.MERGE, {"transport_socket": socket})
    yield patch(
        "CLUSTER",
        context,
        match,
        Operation.MERGE_AND_REPLACE_LIST,
        {"transport_socket_matches": [for_all]},
    )
