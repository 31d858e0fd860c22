"""What a request says about its connection: written by the proxy, from what the module verified.

Envoy does not know that the module's connections are mutual TLS: it removes
x-forwarded-client-cert and takes the scheme for http.
"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.istio.mesh.identity import PEER_HEADER
from sidecar.istio.mesh.module import Json

_TYPES = "type.googleapis.com/envoy.extensions"
_HTTPS: Json = {"key": "x-forwarded-proto", "value": "https"}

# A sidecar's listener keeps what the peer says, a mesh workload, as it does without us: behind a
# gateway that is the scheme the user's browser sees. Where nothing is said it is https, and that
# has to be there before Envoy fills in http.
SIDECAR_SCHEME: Json = {
    "early_header_mutation_extensions": [
        {
            "name": "envoy.http.early_header_mutation.header_mutation",
            "typed_config": {
                "@type": f"{_TYPES}.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                "mutations": [
                    {"append": {"header": _HTTPS, "append_action": "ADD_IF_ABSENT"}},
                ],
            },
        }
    ]
}
# A gateway decides it by its own connection. Sets x-forwarded-proto as well.
GATEWAY_SCHEME: Json = {"scheme_header_transformation": {"scheme_to_overwrite": "https"}}


def verified_headers() -> Json:
    """An HTTP filter: who the caller is, in place of what he says about himself."""
    return {
        "name": "meshkey_headers",
        "typed_config": {
            "@type": f"{_TYPES}.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {
                "request_mutations": [
                    *_overwritten("x-forwarded-client-cert", "meshkey.xfcc"),
                    *_overwritten(PEER_HEADER, "meshkey.peer"),
                ]
            },
        },
    }


def _overwritten(header: str, filter_state: str) -> Iterator[Json]:
    # An empty value overwrites nothing: without filter state the caller's own would stay.
    yield {"remove": header}
    yield {
        "append": {
            "header": {"key": header, "value": f"%FILTER_STATE({filter_state}:PLAIN)%"},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
    }
