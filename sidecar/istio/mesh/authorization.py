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
from sidecar.istio.mesh.policies import Policy, Rule

_ABOUT = """\
The policies of this namespace that name principals, namespaces, service accounts or trust domains,
for connections with the sidecar's keys. They add to the policies, which stay.
"""


# The one annotation that says what a policy means.
_DRY_RUN = "istio.io/dry-run"


def authorization(policies: Sequence[Policy], trust_domain: str) -> Sequence[Document]:
    """One document for each namespace that has such policies.

    Raises:
        ConfigurationError: for a policy whose twin would mean something else.
    """
    twins: dict[str, list[Object]] = {}
    taken = {(each.namespace, each.name) for each in policies if not each.generated}
    for policy in policies:
        if rules := list(_rules(policy, Mesh(trust_domain, policy.namespace))):
            if (policy.namespace, _name(policy)) in taken:
                raise _hidden(policy)
            twins.setdefault(policy.namespace, []).append(_twin(policy, rules))
    return [
        Document(f"namespaces/{namespace}/authorization.yaml", _ABOUT, tuple(objects))
        for namespace, objects in twins.items()
    ]


def _name(policy: Policy) -> str:
    return f"{policy.name}-meshkey"


def _hidden(policy: Policy) -> ConfigurationError:
    return ConfigurationError(
        f"AuthorizationPolicy {policy.namespace}/{policy.name}: its twin would replace the policy "
        f"{_name(policy)}, which is somebody's own: give one of them another name"
    )


def _twin(policy: Policy, rules: Sequence[Object]) -> Object:
    dry = {key: value for key, value in policy.annotations.items() if key == _DRY_RUN}
    annotations = {"annotations": dry} if dry else {}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {**metadata(_name(policy), policy.namespace), **annotations},
        "spec": {**policy.spec, "rules": list(rules)},
    }


def _rules(policy: Policy, mesh: Mesh) -> Iterator[Object]:
    """A rule's conditions hold for all of its sources: so one rule for each source."""
    for rule in policy.rules:
        always = [each for each in rule.when if each.get("key") not in IDENTITIES.values()]
        known = list(_conditions(rule, mesh))
        for source in rule.sources or ({},):
            if meant := [*_identities(rule.where, source, mesh), *known]:
                yield _rule(_others(source), rule.to, [*always, *meant])


def _rule(source: Mapping[str, Any], to: Any, when: Sequence[Condition]) -> Object:
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


def _conditions(rule: Rule, mesh: Mesh) -> Iterator[Condition]:
    """Those of the rule that are on identities, in our words."""
    for identity, key in IDENTITIES.items():
        for each in rule.when:
            if each.get("key") != key:
                continue
            if each.get("notValues"):
                raise _inverted(rule.where, f"{key} with notValues")
            yield condition(f"{rule.where}: {key}", identity, each.get("values") or [], mesh)


def _inverted(where: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{where}: {what} would be true of everybody on meshkey's connections; name who is meant, "
        f"or write a condition with key {Attribute.PRINCIPAL.key} and notValues instead"
    )
