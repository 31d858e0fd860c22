"""From values to files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecar.istio.document import Copy, Document
from sidecar.istio.mesh.authorization import authorization
from sidecar.istio.mesh.gateway import gateway
from sidecar.istio.mesh.inbound import inbound
from sidecar.istio.mesh.outbound import outbound
from sidecar.istio.mesh.peer_authentication import peer_authentication
from sidecar.istio.mesh.peers import peers
from sidecar.istio.mesh.policies_file import read as policies_in
from sidecar.istio.pods.access import access
from sidecar.istio.pods.configuration import configuration
from sidecar.istio.pods.install import install
from sidecar.istio.pods.kustomization import kustomized
from sidecar.istio.pods.network_policy import network_policies
from sidecar.istio.pods.node_profiles import node_profiles
from sidecar.istio.values import Values

# Each part of a mesh has its builder: values in, documents out, nothing read or written.
_BUILDERS: tuple[Callable[[Values], Sequence[Document]], ...] = (
    install,
    access,
    configuration,
    network_policies,
    peer_authentication,
    inbound,
    outbound,
    gateway,
    peers,
)


def generated(values: Values) -> tuple[Document, ...]:
    """Every document that the values, and the policies they name, make.

    Raises:
        ConfigurationError: for what is wrong with these.
    """
    policies = [policy for file in values.policies for policy in policies_in(file)]
    documents = (
        *(document for build in _BUILDERS for document in build(values)),
        *authorization(policies, values.trust_domain),
    )
    return (*documents, *kustomized(documents))


def files(values: Values) -> tuple[Document | Copy, ...]:
    """All that is written: the documents, and files of meshkey's own that nodes need."""
    return (*generated(values), *node_profiles())
