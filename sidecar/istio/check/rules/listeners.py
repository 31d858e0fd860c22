"""Chains that get our socket: with what belongs to it, and only on pods that have the sidecar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecar.istio.check.finding import Finding, error
from sidecar.istio.check.mesh import Mesh
from sidecar.istio.check.patches import Patch
from sidecar.istio.names import SIGNER_LABEL

MISSING = error("peer-filter-missing", "A chain has our socket without `meshkey_peer`.")
NOT_FIRST = error("peer-filter-not-first", "`meshkey_peer` is not the first filter of its chain.")
ALONE = error("peer-filter-without-socket", "`meshkey_peer` is on a chain without our socket.")
SELECTOR = error(
    "no-workload-selector", "A filter with our socket is not only for pods with the sidecar."
)

_PEER = "meshkey_peer"
_FIRST = "INSERT_FIRST"


def chains(mesh: Mesh) -> Iterator[Finding]:
    """Of each EnvoyFilter: its patches are applied in order, nobody else's between them."""
    for each in mesh.objects.of("EnvoyFilter"):
        yield from _of_filter([patch for patch in mesh.patches if patch.filter is each])


def _of_filter(patches: Sequence[Patch]) -> Iterator[Finding]:
    sockets = [each for each in patches if each.apply_to == "FILTER_CHAIN" and each.sockets]
    filters = [each for each in patches if each.apply_to == "NETWORK_FILTER"]
    peers = [each for each in filters if each.value.at("name").text == _PEER]
    for socket in sockets:
        if all(each.chains != socket.chains for each in peers):
            yield MISSING.at(
                socket.place,
                "its connections have no identity: authorization and headers know of nobody",
                f"insert {_PEER} first, with the same match",
            )
    for peer in peers:
        if all(each.chains != peer.chains for each in sockets):
            yield ALONE.at(
                peer.place,
                f"{_PEER} closes every connection of a chain without our socket",
                "give it exactly the match of the patch with the socket",
            )
        yield from _order(peer, filters[filters.index(peer) + 1 :])


def _order(peer: Patch, later: Sequence[Patch]) -> Iterator[Finding]:
    before = [each for each in later if each.operation == _FIRST and each.chains == peer.chains]
    again = any(each.value.at("name").text == _PEER for each in before[-1:])
    if peer.operation != _FIRST or (before and not again):
        yield NOT_FIRST.at(
            peer.place,
            "another filter would act before the peer is known",
            f"insert it with {_FIRST}, after every other filter that is",
        )


def selectors(mesh: Mesh) -> Iterator[Finding]:
    """A proxy without the module refuses our socket, or waits for a signer that is not there."""
    for each in mesh.objects.of("EnvoyFilter"):
        sockets = [patch for patch in mesh.patches if patch.filter is each and patch.sockets]
        if sockets and not SIGNER_LABEL.items() <= sockets[0].selector.items():
            yield SELECTOR.at(
                each.spec.at("workloadSelector", "labels").place,
                "pods without the sidecar get our socket too, and lose their traffic",
                f"select {', '.join(f'{key}: {value}' for key, value in SIGNER_LABEL.items())}",
            )
