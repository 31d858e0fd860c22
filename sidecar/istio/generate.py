"""From values to files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sidecar.istio.document import Document
from sidecar.istio.mesh.authorization import authorization
from sidecar.istio.mesh.gateway import gateway
from sidecar.istio.mesh.inbound import inbound
from sidecar.istio.mesh.outbound import outbound
from sidecar.istio.mesh.peer_authentication import peer_authentication
from sidecar.istio.mesh.peers import peers
from sidecar.istio.mesh.policies_file import read as policies_in
from sidecar.istio.values import Values

# Each part of a mesh has its builder: values in, documents out, nothing read or written.
_BUILDERS: tuple[Callable[[Values], Sequence[Document]], ...] = (
    peer_authentication,
    inbound,
    outbound,
    gateway,
    peers,
)


def generated(values: Values) -> tuple[Document, ...]:
    """Every file that the values, and the policies they name, make.

    Raises:
        ConfigurationError: for what is wrong with these.
    """
    policies = [policy for file in values.policies for policy in policies_in(file)]
    return (
        *(document for build in _BUILDERS for document in build(values)),
        *authorization(policies, values.trust_domain),
    )


def written(documents: Sequence[Document], out: Path) -> Iterator[Path]:
    """Writes them below `out`; yields each path when it is written."""
    for document in documents:
        path = out / document.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document.text(), encoding="utf-8")
        yield path
