"""EnvoyFilter objects: what is patched, where, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from sidecar.istio.document import Object, metadata
from sidecar.istio.mesh.module import Json

# Istio applies patches in the order of rising priority. After everybody else's: what is inserted
# first stays first, and no other patch is merged into our socket.
_PRIORITY = 1000

HTTP_CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"


class Context(StrEnum):
    """Which of a proxy's listeners or clusters a patch is for."""

    INBOUND = "SIDECAR_INBOUND"
    OUTBOUND = "SIDECAR_OUTBOUND"
    GATEWAY = "GATEWAY"


class Operation(StrEnum):
    """What a patch does."""

    ADD = "ADD"
    MERGE = "MERGE"
    MERGE_AND_REPLACE_LIST = "MERGE_AND_REPLACE_LIST"
    INSERT_FIRST = "INSERT_FIRST"
    REMOVE = "REMOVE"


def envoy_filter(
    name: str, namespace: str, labels: Mapping[str, str], patches: Sequence[Json]
) -> Object:
    """For the pods of `namespace` that have all `labels`; the patches are applied in order."""
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": metadata(name, namespace),
        "spec": {
            "workloadSelector": {"labels": dict(labels)},
            "priority": _PRIORITY,
            "configPatches": list(patches),
        },
    }


def patch(
    apply_to: str, context: Context, match: Json, operation: Operation, value: Json | None = None
) -> Json:
    """`match`: besides the context, one of `listener: {...}` and `cluster: {...}`, or nothing."""
    return {
        "applyTo": apply_to,
        "match": {"context": str(context), **match},
        "patch": {"operation": str(operation), **({"value": value} if value else {})},
    }
