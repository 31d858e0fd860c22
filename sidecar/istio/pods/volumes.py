"""Volumes of a pod with a sidecar of ours, and where its containers see what is in them.

A fresh emptyDir may be written by everybody. So `meshkey-setup` makes directories *in* the
volumes, with owner and mode, and the other containers mount those alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.istio.names import (
    ADMIN_SOCKET,
    CONFIG_MAP,
    MODULE_DIRECTORY,
    PEERS_CONFIG_MAP,
    PEERS_DIRECTORY,
    SDS_DIRECTORY,
    SIGNER_SOCKET,
)

Volume = Mapping[str, Any]
Mount = Mapping[str, Any]

STORE_DIRECTORY = "/var/lib/meshkey"
CONFIG_DIRECTORY = "/etc/meshkey"
# Istio's own: what its agent would show its CA, and the roots of the mesh.
ISTIO_TOKEN_DIRECTORY = "/var/run/secrets/tokens"  # noqa: S105 # a place, no secret
ISTIO_ROOTS_DIRECTORY = "/var/run/secrets/istio"
API_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True)
class Mounted:
    """A volume, or one directory of it, in a container."""

    volume: Volume
    path: str
    directory: str | None = None
    read_only: bool = False

    def mount(self) -> Mount:
        """In the words of a container."""
        return {
            "name": self.volume["name"],
            "mountPath": self.path,
            **({"subPath": self.directory} if self.directory else {}),
            **({"readOnly": True} if self.read_only else {}),
        }


def memory(name: str, limit: str) -> Volume:
    """An emptyDir that never reaches a disk. It counts as memory of who writes to it."""
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": limit}}


def config_map(name: str, source: str) -> Volume:
    """A pod waits in ContainerCreating until there is such a ConfigMap, and says so."""
    return {"name": name, "configMap": {"name": source}}


def secret(name: str) -> Volume:
    """For root's files in it to be readable, who mounts it has to be trusted with all of it."""
    return {"name": name, "secret": {"secretName": name, "defaultMode": 0o444}}


def host_path(name: str, path: str, kind: str) -> Volume:
    """Something of the node's that must be there already."""
    return {"name": name, "hostPath": {"path": path, "type": kind}}


SOCKETS = memory("meshkey-sockets", "1Mi")
STORE = memory("meshkey-store", "16Mi")
MODULE: Volume = {"name": "meshkey-module", "emptyDir": {"sizeLimit": "64Mi"}}
CONFIG = config_map("meshkey-config", CONFIG_MAP)
PEERS = config_map("meshkey-peers", PEERS_CONFIG_MAP)
# Volumes that Istio's templates define, with these names.
WORKLOAD_SOCKET: Volume = {"name": "workload-socket"}
ISTIO_TOKEN: Volume = {"name": "istio-token"}
ISTIO_ROOTS: Volume = {"name": "istiod-ca-cert"}
_NAMESPACE = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
# What kubelets mount for each service account, but for one container and with no need for the
# pod to have it mounted everywhere.
API_ACCESS: Volume = {
    "name": "meshkey-api",
    "projected": {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
            {"configMap": {"name": "kube-root-ca.crt"}},
            {"downwardAPI": {"items": [_NAMESPACE]}},
        ]
    },
}

# Each volume whole, for `meshkey prepare-pod`.
SETUP = (
    Mounted(SOCKETS, "/pod/sockets"),
    Mounted(WORKLOAD_SOCKET, "/pod/workload-socket"),
    Mounted(MODULE, "/pod/module"),
    Mounted(STORE, "/pod/store"),
)

SIDECAR = (
    Mounted(CONFIG, CONFIG_DIRECTORY, read_only=True),
    Mounted(STORE, STORE_DIRECTORY, "store"),
    Mounted(SOCKETS, SIGNER_SOCKET.rpartition("/")[0], "signer"),
    Mounted(SOCKETS, ADMIN_SOCKET.rpartition("/")[0], "admin"),
    Mounted(WORKLOAD_SOCKET, SDS_DIRECTORY, "sds"),
    Mounted(ISTIO_ROOTS, ISTIO_ROOTS_DIRECTORY, read_only=True),
)

# Read-only throughout: a socket can be connected to, and not be replaced. The last one takes the
# place of the same volume in Istio's templates, because it has the same path.
PROXY = (
    Mounted(SOCKETS, SIGNER_SOCKET.rpartition("/")[0], "signer", read_only=True),
    Mounted(MODULE, MODULE_DIRECTORY, "lib", read_only=True),
    Mounted(PEERS, PEERS_DIRECTORY, read_only=True),
    Mounted(WORKLOAD_SOCKET, SDS_DIRECTORY, "sds", read_only=True),
)
