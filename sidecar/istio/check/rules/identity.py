"""What only the module may say: who the peer is."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.istio.check.finding import Finding, error
from sidecar.istio.check.located import Node
from sidecar.istio.check.mesh import Mesh
from sidecar.istio.mesh.headers import verified_headers
from sidecar.istio.mesh.identity import METADATA, PEER_HEADER, request_attributes

OVERWRITTEN = error(
    "identity-overwritten",
    "A filter writes filter state, metadata or a header from which a peer's identity is read.",
)

_STATES = ("io.istio.peer_principal", "io.istio.local_principal")
_PREFIX = "meshkey."
# They make the attributes of what the module says.
_OURS = (request_attributes(), verified_headers())


def identity(mesh: Mesh) -> Iterator[Finding]:
    """In any EnvoyFilter, of HTTP and of network filters."""
    for patch in mesh.patches:
        if patch.value.plain in _OURS:
            continue
        for node in patch.value.walk():
            if written := _written(node):
                yield OVERWRITTEN.at(
                    written.place,
                    f"{written.text} would be written by this filter: whoever it lets choose the "
                    "value can pass for another workload",
                    "use a name of its own",
                )


def _written(node: Node) -> Node | None:
    state, metadata, header = (node.at(key) for key in ("object_key", "metadata_namespace", "key"))
    if state.text in _STATES or state.text.startswith(_PREFIX):
        return state
    if metadata.text == METADATA:
        return metadata
    return header if header.text.lower() == PEER_HEADER else None
