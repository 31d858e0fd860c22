"""Who the peer is, as attributes that Istio's authorization policies can ask for.

On a sidecar Istio reads principals from Envoy's own TLS, which the module's connections do not
have. What it reads from dynamic metadata is the same with any TLS; there is no such attribute where
the peer is not known.
"""

from __future__ import annotations

from enum import StrEnum

from sidecar.istio.mesh.module import Json

METADATA = "envoy.filters.meshkey"
# Written and removed between two of our own filters: nothing else sees it.
PEER_HEADER = "x-meshkey-peer"

_TYPES = "type.googleapis.com/envoy.extensions.filters.http"


class Attribute(StrEnum):
    """For TCP `meshkey_peer` sets them, for HTTP requests `request_attributes`."""

    PRINCIPAL = "principal"  # cluster.local/ns/demo/sa/client
    NAMESPACE = "namespace"  # demo; absent if the SPIFFE ID is not of Istio's form

    @property
    def key(self) -> str:
        """For `when` of an AuthorizationPolicy."""
        return f"experimental.{METADATA}[{self}]"


def request_attributes() -> Json:
    """An HTTP filter: from the header that `headers` has written."""
    return {
        "name": "meshkey_identity",
        "typed_config": {
            "@type": f"{_TYPES}.header_to_metadata.v3.Config",
            "request_rules": [
                _rule(Attribute.PRINCIPAL, "^spiffe://(.*)$"),
                # All of any other is replaced by nothing, and nothing is not set.
                _rule(Attribute.NAMESPACE, "^spiffe://[^/]+/ns/([^/]+)/sa/[^/]+$|^.*$", last=True),
            ],
        },
    }


def _rule(attribute: Attribute, pattern: str, *, last: bool = False) -> Json:
    rewrite = {"pattern": {"regex": pattern}, "substitution": r"\1"}
    return {
        "header": PEER_HEADER,
        "on_header_present": {
            "metadata_namespace": METADATA,
            "key": str(attribute),
            "type": "STRING",
            "regex_value_rewrite": rewrite,
        },
        "remove": last,
    }
