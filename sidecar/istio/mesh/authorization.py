"""AuthorizationPolicies by identity, once more in words that hold on the module's connections.

A policy that names principals never applies to these: ALLOW lets nobody in, DENY keeps nobody out.
Its twin applies to these alone. Both are needed: the policy goes on holding for pods without the
sidecar, and where the policy allows, so does either of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.istio.document import Document, Object, metadata
from sidecar.istio.mesh.conditions import IDENTITIES, Condition, Mesh, condition
from sidecar.istio.mesh.identity import Attribute
from sidecar.istio.mesh.policies_file import Policy

_ABOUT = """\
The policies of this namespace that name principals, namespaces, service accounts or trust domains,
for connections with the sidecar's keys. They add to the policies, which stay.
"""

Rule = Mapping[str, Any]


def authorization(policies: Sequence[Policy], trust_domain: str) -> Sequence[Document]:
    """One document for each namespace that has such policies.

    Raises:
        ConfigurationError: for a policy whose twin would mean something else.
    """
    twins: dict[str, list[Object]] = {}
    for policy in policies:
        if rules := list(_rules(policy, Mesh(trust_domain, policy.namespace))):
            twins.setdefault(policy.namespace, []).append(_twin(policy, rules))
    return [
        Document(f"namespaces/{namespace}/authorization.yaml", _ABOUT, tuple(objects))
        for namespace, objects in twins.items()
    ]


def _twin(policy: Policy, rules: Sequence[Rule]) -> Object:
    annotations = {"annotations": dict(policy.annotations)} if policy.annotations else {}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {**metadata(f"{policy.name}-meshkey", policy.namespace), **annotations},
        "spec": {**policy.spec, "rules": list(rules)},
    }


def _rules(policy: Policy, mesh: Mesh) -> Iterator[Rule]:
    """A rule's conditions hold for all of its sources: so one rule for each source."""
    for index, rule in enumerate(policy.rules):
        where = f"{policy.where}: rule {index}"
        known, always = _split_conditions(where, rule.get("when") or (), mesh)
        for each in rule.get("from") or [{}]:
            source = (each or {}).get("source") or {}
            meant = [*_identities(where, source, mesh), *known]
            if meant:
                yield _rule(_others(source), rule.get("to"), [*always, *meant])


def _rule(source: Mapping[str, Any], to: Any, when: Sequence[Condition]) -> Rule:
    return {
        **({"from": [{"source": source}]} if source else {}),
        **({"to": to} if to else {}),
        "when": list(when),
    }


def _identities(where: str, source: Mapping[str, Any], mesh: Mesh) -> Iterator[Condition]:
    for identity in IDENTITIES:
        negative = f"not{identity[0].upper()}{identity[1:]}"
        if source.get(negative):
            raise _inverted(where, negative)
        if values := source.get(identity):
            yield condition(f"{where}: {identity}", identity, values, mesh)


def _others(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """What Istio reads from elsewhere: addresses, and whom a token names."""
    return {key: value for key, value in source.items() if key not in IDENTITIES}


def _split_conditions(
    where: str, conditions: Sequence[Condition], mesh: Mesh
) -> tuple[list[Condition], list[Condition]]:
    """Those on identities, in our words, and all others, as they are."""
    identities = {key: identity for identity, key in IDENTITIES.items()}
    known, always = [], []
    for each in conditions:
        key = each.get("key", "")
        if key not in identities:
            always.append(each)
            continue
        if each.get("notValues"):
            raise _inverted(where, f"{key} with notValues")
        known.append(condition(f"{where}: {key}", identities[key], each.get("values") or (), mesh))
    return known, always


def _inverted(where: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{where}: {what} would be true of everybody on meshkey's connections; name who is meant, "
        f"or write a condition with key {Attribute.PRINCIPAL.key} and notValues instead"
    )
