"""What Istio's proxy gets in addition: the module, the sockets and the lists of peers."""

from __future__ import annotations

from sidecar.istio.document import Object
from sidecar.istio.names import MODULE_DIRECTORY, SDS_SOCKET_FILE
from sidecar.istio.pods import security
from sidecar.istio.pods.volumes import PROXY
from sidecar.istio.values import Values

NAME = "istio-proxy"


def container(values: Values) -> Object:
    """Merged onto Istio's own by name; its environment by name, its mounts by path."""
    context = security.proxy(values)
    return {
        "name": NAME,
        "image": values.images.proxy,
        **({"securityContext": context} if context else {}),
        "env": [
            {"name": "ENVOY_DYNAMIC_MODULES_SEARCH_PATH", "value": MODULE_DIRECTORY},
            {"name": "WORKLOAD_IDENTITY_SOCKET_FILE", "value": SDS_SOCKET_FILE},
        ],
        "volumeMounts": [each.mount() for each in PROXY],
    }
