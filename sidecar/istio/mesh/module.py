"""The dynamic module in Envoy's configuration, as Istio's EnvoyFilter carries it: JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.istio.names import SIGNER_SOCKET, TRANSPORT_SOCKET

Json = Mapping[str, Any]

_TYPES = "type.googleapis.com/envoy.extensions"
# Below the 10 s that Istio gives a connection: so the log says what the module waited for.
_HANDSHAKE_TIMEOUT_MS = 8000
# Unloading would take the code from under the module's threads.
_MODULE: Json = {"name": "meshkey", "do_not_close": True}


def transport_socket(*, alpn: Sequence[str], peers: Json, sni: str | None = None) -> Json:
    """Handshakes with the sidecar's key.

    `alpn`: preferred first. `peers`: who is accepted, in the module's words; `sni`: what a
    cluster asks for. All of it is explained in docs/envoy-module.md.

    No list of Envoy's own: a patch that meets its own result merges with it, and lists grow.
    """
    settings = {
        "signer": SIGNER_SOCKET,
        "identity": "default",
        "alpn": list(alpn),
        "peers": peers,
        "handshake_timeout_ms": _HANDSHAKE_TIMEOUT_MS,
        **({"sni": sni} if sni else {}),
    }
    return {
        "name": TRANSPORT_SOCKET,
        "typed_config": {
            "@type": f"{_TYPES}.transport_sockets.dynamic_modules.v3.DynamicModuleTransportSocket",
            "dynamic_module_config": _MODULE,
            "transport_socket_name": "meshkey",
            "implements_secure_transport": True,
            "transport_socket_config": struct(settings),
        },
    }


def network_filter(name: str, **more: Any) -> Json:
    """One of the module's own, which is also its name in the chain."""
    return {
        "name": name,
        "typed_config": {
            "@type": f"{_TYPES}.filters.network.dynamic_modules.v3.DynamicModuleNetworkFilter",
            "dynamic_module_config": _MODULE,
            "filter_name": name,
            **more,
        },
    }


def struct(value: Json) -> Json:
    """Free-form settings where Envoy wants a typed message."""
    return {"@type": "type.googleapis.com/google.protobuf.Struct", "value": value}
