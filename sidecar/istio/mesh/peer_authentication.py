"""What a namespace's workloads accept, said to Istio: it makes the chains that are patched."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.istio.document import Document, metadata
from sidecar.istio.values import Namespace, Values

_ABOUT = """\
The mode that the filters of this namespace are written for: another one for it, for a workload or
for a port of it does not go with them.
"""


def peer_authentication(values: Values) -> Sequence[Document]:
    """One for each namespace of workloads.

    No DestinationRule is written: automatic mutual TLS and ISTIO_MUTUAL are patched alike.
    """
    return [_document(each) for each in values.namespaces]


def _document(namespace: Namespace) -> Document:
    # Istio takes the oldest where there are several for a namespace: under the usual name this
    # replaces the one that is there.
    mode = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": metadata("default", namespace.name),
        "spec": {"mtls": {"mode": namespace.mtls.upper()}},
    }
    return Document(f"namespaces/{namespace.name}/peer-authentication.yaml", _ABOUT, (mode,))
