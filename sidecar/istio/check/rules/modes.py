"""Whether what workloads accept goes with how their chains are patched."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.istio.check import modes
from sidecar.istio.check.finding import Finding, Rule, error, warning
from sidecar.istio.check.mesh import Mesh, labels_of
from sidecar.istio.check.modes import DISABLE, PERMISSIVE, STRICT, Mode
from sidecar.istio.check.objects import Object
from sidecar.istio.check.patches import Patch

NOT_STRICT = error(
    "permissive-inbound",
    "An inbound filter patches every TLS chain, where workloads or ports are not STRICT.",
)
NOT_PERMISSIVE = error(
    "strict-inbound",
    "An inbound filter patches chains by ALPN, where workloads or ports are STRICT.",
)
DISABLED = error("mtls-disabled", "Workloads or ports with an inbound filter accept no mutual TLS.")
COMPETING = warning(
    "competing-modes", "A namespace has several PeerAuthentications without selector."
)

_HAPPENS = {
    DISABLED: "DISABLE: no connection is protected, by whatever keys",
    NOT_STRICT: "PERMISSIVE: the application's own TLS would be taken for mutual TLS",
    NOT_PERMISSIVE: "STRICT: its chains have no ALPN to match, so they keep Istio's own keys",
}


def modes_of_chains(mesh: Mesh) -> Iterator[Finding]:
    """Of each namespace with an inbound filter."""
    for patch in mesh.patches:
        if patch.apply_to != "FILTER_CHAIN" or not patch.socket or patch.context == "GATEWAY":
            continue
        for namespace in _namespaces(mesh, patch):
            yield from _of_namespace(mesh, patch, namespace)


def _namespaces(mesh: Mesh, patch: Patch) -> frozenset[str]:
    """A filter in the root namespace is for all."""
    here = patch.filter.namespace
    return mesh.signer_namespaces - {here} if here == mesh.root_namespace else frozenset({here})


def _of_namespace(mesh: Mesh, patch: Patch, namespace: str) -> Iterator[Finding]:
    base = modes.of_namespace(mesh, namespace)
    for policy in modes.narrow(mesh, namespace):
        if modes.selector(policy).items() <= patch.selector.items():
            base = modes.of_workload(policy, base)
            yield from _ports(patch, policy)
            break
        if _meets(mesh, patch, policy, namespace):
            if mode := modes.of_workload(policy, Mode("")).said:
                yield from _compared(patch, Mode(mode.text, mode), str(policy))
            yield from _ports(patch, policy)
    yield from _compared(patch, base, f"namespace {namespace}")


def _meets(mesh: Mesh, patch: Patch, policy: Object, namespace: str) -> bool:
    """Whether both may select a pod; not if the policy's pods in the set are all others."""
    pods = [each for each in mesh.workloads if each.namespace == namespace]
    selected = [each for each in pods if modes.selector(policy).items() <= each.labels.items()]
    ours = [each for each in selected if mesh.has_signer(each)]
    return not selected or any(patch.selector.items() <= labels_of(each).items() for each in ours)


def _ports(patch: Patch, policy: Object) -> Iterator[Finding]:
    for mode in modes.of_ports(policy):
        yield from _compared(patch, mode, f"a port of {policy}")


def _compared(patch: Patch, mode: Mode, where: str) -> Iterator[Finding]:
    by_alpn = patch.listener.at("filterChain", "applicationProtocols").present
    if mode.name == (PERMISSIVE if by_alpn else STRICT):
        return
    rule = _rule(mode)
    unset = "" if mode.said else " (nothing in the set says otherwise)"
    yield rule.at(
        mode.said.place if mode.said else patch.place,
        f"{where}{unset} is {_HAPPENS[rule]}: {patch.filter}, {patch.place}",
        f"set it to {PERMISSIVE if by_alpn else STRICT}, or generate the filters for what it is",
    )


def _rule(mode: Mode) -> Rule:
    if mode.name == DISABLE:
        return DISABLED
    return NOT_PERMISSIVE if mode.name == STRICT else NOT_STRICT


def competing(mesh: Mesh) -> Iterator[Finding]:
    """Which of them counts is not in the files."""
    for namespace in sorted(mesh.signer_namespaces):
        for each in modes.wide(mesh, namespace)[1:]:
            yield COMPETING.at(
                each.place,
                f"Istio takes the oldest for namespace {namespace}, and passes over the others",
                "keep one, under the name default",
            )
