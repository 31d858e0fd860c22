"""Which clusters get our socket: a mesh identity is shown to the mesh alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecar.istio.check.finding import Finding, error
from sidecar.istio.check.hosts import covers, full
from sidecar.istio.check.located import Node
from sidecar.istio.check.mesh import Mesh
from sidecar.istio.check.patches import Patch

UNMATCHED = error("unmatched-cluster", "A cluster patch with our socket names no service.")
LEAK = error(
    "identity-leaves-mesh",
    "A cluster patch with our socket is for a cluster of Istio's own, such as PassthroughCluster, "
    "or for a ServiceEntry outside of the mesh.",
)
CONTEXT = error("cluster-context", "A cluster patch with our socket is not for outbound clusters.")
SINGLE = error(
    "incomplete-cluster-patch",
    "A service's cluster is patched with or without automatic mutual TLS, and not for both.",
)
ORDER = error("cluster-patch-order", "The two patches of a service's cluster are in wrong order.")
TLS = error(
    "destination-rule-tls",
    "A DestinationRule says DISABLE, SIMPLE or MUTUAL for a host that has our patch.",
)

_OWN = ("PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster")
_REPLACES = "MERGE_AND_REPLACE_LIST"


def clusters(mesh: Mesh) -> Iterator[Finding]:
    """Each cluster patch by itself."""
    for patch in _ours(mesh):
        if patch.context not in {"SIDECAR_OUTBOUND", "GATEWAY"}:
            yield CONTEXT.at(
                patch.node.at("match", "context").place,
                f"context {patch.context} has the proxy's own application among its clusters, "
                "which speaks no mutual TLS",
                "use SIDECAR_OUTBOUND, or GATEWAY for a gateway",
            )
        yield from _unmatched(patch)
        yield from _outside(mesh, patch)


def _unmatched(patch: Patch) -> Iterator[Finding]:
    host = _host(patch)
    if not host.text:
        yield UNMATCHED.at(
            patch.place,
            "it is for every cluster: PassthroughCluster, and hosts outside of the mesh, would be "
            "offered the workload's identity",
            "match cluster.service, with one patch for each service",
        )
    elif host.text in _OWN:
        yield LEAK.at(
            host.place,
            f"whatever is reached through {host.text} is offered the workload's identity",
            "match cluster.service instead",
        )


def _outside(mesh: Mesh, patch: Patch) -> Iterator[Finding]:
    host = _host(patch)
    for entry in mesh.objects.of("ServiceEntry"):
        if entry.spec.at("location").text == "MESH_INTERNAL":
            continue
        if host.text and any(covers(each.text, host.text) for each in entry.spec.at("hosts").items):
            yield LEAK.at(
                host.place,
                f"{host.text} is outside of the mesh ({entry}, {entry.place}): "
                "it is offered the workload's identity",
                "remove the patch, or give the ServiceEntry location MESH_INTERNAL if it is inside",
            )


def pairs(mesh: Mesh) -> Iterator[Finding]:
    """A cluster has one socket, or several by its endpoints' labels: so two patches each."""
    of_filter: dict[tuple[str, str, str], list[Patch]] = {}
    for patch in _ours(mesh):
        match = str(patch.node.at("match").plain)
        of_filter.setdefault((patch.filter.namespace, patch.filter.name, match), []).append(patch)
    for same in of_filter.values():
        yield from _pair(same)


def _pair(same: Sequence[Patch]) -> Iterator[Finding]:
    plain = [index for index, each in enumerate(same) if each.socket]
    replaced = [
        index
        for index, each in enumerate(same)
        if each.matched_sockets and each.operation == _REPLACES
    ]
    if not replaced:
        yield SINGLE.at(
            same[0].place,
            "where automatic mutual TLS is on Istio drops it silently: its own keys stay in use",
            f"add a second patch after it: {_REPLACES} of transport_socket_matches alone",
        )
    elif not plain:
        yield SINGLE.at(
            same[0].place,
            "a cluster without automatic mutual TLS keeps Istio's own socket beside ours",
            "add a patch before it: MERGE of transport_socket",
        )
    elif plain[0] > replaced[-1]:
        yield ORDER.at(
            same[plain[0]].place,
            "the one socket is merged after the list was replaced: Istio's own stays in reach",
            f"put MERGE of transport_socket before {_REPLACES}",
        )


def destinations(mesh: Mesh) -> Iterator[Finding]:
    """DestinationRules whose TLS is not the mesh's, for hosts that have our patch."""
    ours = {_host(each).text: each for each in _ours(mesh)}
    for rule in mesh.objects.of("DestinationRule"):
        host = full(rule.spec.at("host").text, rule.namespace)
        patched = next((ours[each] for each in ours if each and covers(host, each)), None)
        policies = [rule.spec, *rule.spec.at("subsets").items]
        policies = [each.at("trafficPolicy") for each in policies]
        policies += [each for some in policies for each in some.at("portLevelSettings").items]
        for mode in (each.at("tls", "mode") for each in policies):
            if patched and mode.text in {"DISABLE", "SIMPLE", "MUTUAL"}:
                yield TLS.at(
                    mode.place,
                    f"{mode.text} has no effect for {host}: the patch at {patched.place} "
                    "puts the workload's identity there",
                    "remove one of them: the mode for a service of the mesh, the patch for another",
                )


def _ours(mesh: Mesh) -> Iterator[Patch]:
    yield from (each for each in mesh.patches if each.apply_to == "CLUSTER" and each.sockets)


def _host(patch: Patch) -> Node:
    """By the service, or by a name as in outbound|8000||server.demo.svc.cluster.local."""
    service, name = patch.cluster.at("service"), patch.cluster.at("name")
    return service if service.present else Node(name.place, name.text.rpartition("|")[2])
