"""AuthorizationPolicies by identity: they need a twin that holds on the module's connections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.istio.check.finding import Finding, error
from sidecar.istio.check.located import Node
from sidecar.istio.check.mesh import Mesh
from sidecar.istio.check.objects import Object
from sidecar.istio.mesh.authorization import authorization
from sidecar.istio.mesh.conditions import IDENTITIES
from sidecar.istio.mesh.policies import policy as parsed

NO_TWIN = error("policy-without-twin", "A policy by identity has no twin from `generate`.")
STALE = error("stale-twin", "A policy's twin is not what `generate` makes of it.")
INVERTED = error("inverted-identity", "A policy is for everybody but some identity.")
OTHER = error("policy-without-words", "A policy cannot be said on the module's connections.")

_HAPPENS = {
    "ALLOW": "on the module's connections it lets nobody in",
    "DENY": "on the module's connections it keeps nobody out",
}
_DRY_RUN = "istio.io/dry-run"
_NEVER = "on the module's connections it never applies"


def policies(mesh: Mesh) -> Iterator[Finding]:
    """Of those that are for pods with the sidecar, as far as the set tells."""
    for each in mesh.objects.of("AuthorizationPolicy"):
        labels = each.spec.at("selector", "matchLabels").texts
        of_waypoint = each.spec.at("targetRef").present or each.spec.at("targetRefs").present
        if of_waypoint or not mesh.may_select_signers(each, labels):
            continue
        if inverted := list(_inverted(each)):
            yield from inverted
        elif by_identity := next(_by_identity(each), None):
            yield from _twin(mesh, each, by_identity)


def _sources(policy: Object) -> Iterator[Node]:
    for rule in policy.spec.at("rules").items:
        for each in rule.at("from").items:
            yield each.at("source")


def _conditions(policy: Object) -> Iterator[Node]:
    for rule in policy.spec.at("rules").items:
        yield from (
            each for each in rule.at("when").items if each.at("key").text in IDENTITIES.values()
        )


def _inverted(policy: Object) -> Iterator[Finding]:
    negatives = [f"not{each[0].upper()}{each[1:]}" for each in IDENTITIES]
    found = [source.at(each) for source in _sources(policy) for each in negatives]
    found += [each.at("notValues") for each in _conditions(policy)]
    for node in found:
        if node.present:
            yield INVERTED.at(
                node.place,
                f"{policy}: on the module's connections it is true of everybody",
                "name who is meant, or use a condition on "
                "experimental.envoy.filters.meshkey[principal] with notValues",
            )


def _by_identity(policy: Object) -> Iterator[Node]:
    for source in _sources(policy):
        yield from (source.at(each) for each in IDENTITIES if source.at(each).items)
    yield from _conditions(policy)


def _twin(mesh: Mesh, policy: Object, by_identity: Node) -> Iterator[Finding]:
    try:
        expected = _expected(policy, mesh.trust_domain)
    except ConfigurationError as problem:
        yield OTHER.at(by_identity.place, f"{policy} has no twin: {problem}", "say it otherwise")
        return
    twin = mesh.objects.named("AuthorizationPolicy", policy.namespace, expected["metadata"]["name"])
    if twin is None:
        happens = _HAPPENS.get(policy.spec.at("action").text or "ALLOW", _NEVER)
        yield NO_TWIN.at(
            by_identity.place,
            f"{policy} names identities: {happens}",
            "name its file in the values' policies, generate again, and apply the twin with it",
        )
    elif mesh.trust_domain and not _is_made(twin, expected):
        yield STALE.at(
            twin.place,
            f"{twin} is of another {policy} than the one in {policy.place}",
            "generate again",
        )


def _is_made(twin: Object, expected: Mapping[str, Any]) -> bool:
    """A dry run is another policy: it only logs."""
    annotations = expected["metadata"].get("annotations", {})
    tried = twin.node.at("metadata", "annotations", _DRY_RUN).text
    return bool(twin.spec.plain == expected["spec"] and tried == annotations.get(_DRY_RUN, ""))


def _expected(policy: Object, trust_domain: str) -> Mapping[str, Any]:
    metadata = {key: each.plain for key, each in policy.node.at("metadata").fields.items()}
    document = {**policy.node.plain, "metadata": {**metadata, "namespace": policy.namespace}}
    # One policy by identity makes one document of one object.
    ((twin,),) = (
        each.objects for each in authorization([parsed("policy", document)], trust_domain)
    )
    return twin
