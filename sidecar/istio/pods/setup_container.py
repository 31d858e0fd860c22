"""The init step: directories with the right owners, the module, and the token or its PIN."""

from __future__ import annotations

from sidecar.istio.document import Object
from sidecar.istio.pods import security
from sidecar.istio.pods.tokens import token_pod
from sidecar.istio.pods.volumes import SETUP
from sidecar.istio.values import Values

NAME = "meshkey-setup"


def container(values: Values) -> Object:
    """It ends before the sidecar starts; run again it changes nothing."""
    token = token_pod(values)
    return {
        "name": NAME,
        "image": values.images.meshkey,
        "args": ["prepare-pod", *token.setup],
        "securityContext": security.setup(),
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        },
        "volumeMounts": [each.mount() for each in (*SETUP, *token.setup_volumes)],
    }
