"""What workloads accept: an EnvoyFilter for each namespace, by the mode of its mutual TLS."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.istio.document import Document
from sidecar.istio.mesh.chains import Chains, patched
from sidecar.istio.mesh.envoy_filter import Context, envoy_filter
from sidecar.istio.mesh.headers import SIDECAR_SCHEME
from sidecar.istio.mesh.waker import waker
from sidecar.istio.names import SIGNER_LABEL
from sidecar.istio.values import Mtls, Namespace, Values

_ABOUT = """\
Connections to the workloads of a namespace: their mutual TLS is the module's.
"""

_SELECTIONS = {
    # Only mutual TLS is accepted: every TLS chain is Istio's own.
    Mtls.STRICT: (Chains(Context.INBOUND, {"filterChain": {"transportProtocol": "tls"}}),),
    # What Istio's proxies offer tells mutual TLS from the applications' own TLS, which passes
    # through. Ports known to be HTTP or TCP have a chain with all of these, the others one with
    # the first for HTTP and one with the second for the rest.
    Mtls.PERMISSIVE: (
        Chains(Context.INBOUND, {"filterChain": {"applicationProtocols": "istio-http/1.1"}}),
        Chains(Context.INBOUND, {"filterChain": {"applicationProtocols": "istio"}}, http=False),
    ),
}


def inbound(values: Values) -> Sequence[Document]:
    """One document for each namespace."""
    return [_document(values, namespace) for namespace in values.namespaces]


def _document(values: Values, namespace: Namespace) -> Document:
    chains = patched(_SELECTIONS[namespace.mtls], values.trust_domain, SIDECAR_SCHEME)
    patches = [waker(Context.INBOUND), *chains]
    return Document(
        f"namespaces/{namespace.name}/inbound.yaml",
        _ABOUT,
        (envoy_filter("meshkey-inbound", namespace.name, SIGNER_LABEL, patches),),
    )
