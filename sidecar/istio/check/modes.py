"""What workloads accept: PeerAuthentications, by Istio's precedence.

The mesh's is the one without a selector in the root namespace, a namespace's the one without a
selector in it; then those with a selector, and their ports. UNSET is the next wider one's mode; of
several Istio takes the oldest. Nothing at all is PERMISSIVE.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sidecar.istio.check.located import Node
from sidecar.istio.check.mesh import Mesh
from sidecar.istio.check.objects import Object

STRICT, PERMISSIVE, DISABLE = "STRICT", "PERMISSIVE", "DISABLE"


@dataclass(frozen=True)
class Mode:
    """`said` is where it is written; nothing where it is Istio's default."""

    name: str
    said: Node | None = None


def of_namespace(mesh: Mesh, namespace: str) -> Mode:
    """For workloads that no selector is for."""
    for where in (namespace, mesh.root_namespace):
        for each in wide(mesh, where)[:1]:
            if (mode := each.spec.at("mtls", "mode")).text not in {"", "UNSET"}:
                return Mode(mode.text, mode)
    return Mode(PERMISSIVE)


def wide(mesh: Mesh, namespace: str) -> list[Object]:
    """Those of a namespace without a selector, the oldest first as far as the set tells."""
    found = mesh.objects.within(namespace, "PeerAuthentication")
    return sorted((each for each in found if not selector(each)), key=_age)


def narrow(mesh: Mesh, namespace: str) -> list[Object]:
    """Those with one. Istio passes over them in the root namespace: do not ask for it."""
    found = mesh.objects.within(namespace, "PeerAuthentication")
    return sorted((each for each in found if selector(each)), key=_age)


def of_workload(policy: Object, namespace: Mode) -> Mode:
    """With a selector."""
    mode = policy.spec.at("mtls", "mode")
    return namespace if mode.text in {"", "UNSET"} else Mode(mode.text, mode)


def of_ports(policy: Object) -> Iterator[Mode]:
    """Those that are not the workload's own."""
    for port in policy.spec.at("portLevelMtls").fields.values():
        if (mode := port.at("mode")).text not in {"", "UNSET"}:
            yield Mode(mode.text, mode)


def selector(policy: Object) -> Mapping[str, str]:
    """Empty for the whole namespace."""
    return policy.spec.at("selector", "matchLabels").texts


def _age(policy: Object) -> str:
    # RFC 3339 in UTC sorts as text; what was never applied is younger than what was.
    return policy.node.at("metadata", "creationTimestamp").text or "~"
