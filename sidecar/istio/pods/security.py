"""The security context of the containers with our image: no root, no way to get more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.istio.names import PROXY_GROUP, SIGNER_USER
from sidecar.istio.values import Values

# Where node/ says that they are to be installed.
SECCOMP_PROFILE = "meshkey/sidecar.json"
APPARMOR_PROFILE = "meshkey-sidecar"


def confined(values: Values) -> Mapping[str, Any]:
    """For the sidecar, with the nodes' profiles if they are there."""
    if not values.node_profiles:
        return _context({"type": "RuntimeDefault"})
    return {
        **_context({"type": "Localhost", "localhostProfile": SECCOMP_PROFILE}),
        "appArmorProfile": {"type": "Localhost", "localhostProfile": APPARMOR_PROFILE},
    }


def setup() -> Mapping[str, Any]:
    """For the init step, which starts programs that the sidecar has no use for."""
    return _context({"type": "RuntimeDefault"})


def _context(seccomp: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": SIGNER_USER,
        "runAsGroup": PROXY_GROUP,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": dict(seccomp),
    }
