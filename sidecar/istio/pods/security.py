"""The security context of the containers with our image: no root, no way to get more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.istio.names import PROXY_GROUP, SIGNER_USER
from sidecar.istio.values import Values


def confined(values: Values) -> Mapping[str, Any]:
    """For the sidecar, with the nodes' profiles if they are there."""
    return {**_context(), **(_node_profiles("sidecar") if values.node_profiles else {})}


def proxy(values: Values) -> Mapping[str, Any]:
    """What is added to the proxy's context, which is Istio's."""
    return _node_profiles("proxy") if values.node_profiles else {}


def setup() -> Mapping[str, Any]:
    """For the init step, which starts programs that the sidecar has no use for."""
    return _context()


def _context() -> Mapping[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": SIGNER_USER,
        "runAsGroup": PROXY_GROUP,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _node_profiles(name: str) -> Mapping[str, Any]:
    # Where they are, once the files of node/ are installed.
    seccomp, apparmor = f"meshkey/{name}.json", f"meshkey-{name}"
    return {
        "seccompProfile": {"type": "Localhost", "localhostProfile": seccomp},
        "appArmorProfile": {"type": "Localhost", "localhostProfile": apparmor},
    }
