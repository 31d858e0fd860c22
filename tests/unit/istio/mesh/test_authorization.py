"""The twins of policies by identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.errors import ConfigurationError
from sidecar.istio.mesh.authorization import authorization
from sidecar.istio.mesh.policies import Policy, policy

PRINCIPAL = "experimental.envoy.filters.meshkey[principal]"
NAMESPACE = "experimental.envoy.filters.meshkey[namespace]"
TO = [{"operation": {"ports": ["80"]}}]


def _policy(*rules: Any, **more: Any) -> Policy:
    metadata = {"name": "who", "namespace": "demo", **more.pop("metadata", {})}
    return policy("a.yaml", {"metadata": metadata, "spec": {**more, "rules": list(rules)}})


def _twin(*rules: Mapping[str, Any], trust_domain: str = "demo.mesh") -> list[Mapping[str, Any]]:
    (document,) = authorization([_policy(*rules)], trust_domain)
    (twin,) = document.objects
    return list(twin["spec"]["rules"])


def _from(**source: Any) -> Mapping[str, Any]:
    return {"from": [{"source": source}]}


def _conditions(identity: str, value: str, trust_domain: str = "demo.mesh") -> Any:
    (rule,) = _twin(_from(**{identity: [value]}), trust_domain=trust_domain)
    (condition,) = rule["when"]
    (said,) = condition["values"]
    return condition["key"], said


@pytest.mark.parametrize(
    ("identity", "value", "condition"),
    [
        ("principals", "demo.mesh/ns/a/sa/b", (PRINCIPAL, "demo.mesh/ns/a/sa/b")),
        ("principals", "cluster.local/ns/a/sa/b", (PRINCIPAL, "demo.mesh/ns/a/sa/b")),
        ("principals", "cluster.local/ns/a/sa/*", (PRINCIPAL, "demo.mesh/ns/a/sa/*")),
        ("principals", "cluster.local/ns/a/*", (PRINCIPAL, "cluster.local/ns/a/*")),
        ("principals", "*/sa/b", (PRINCIPAL, "*/sa/b")),
        ("principals", "*", (PRINCIPAL, "*")),
        ("namespaces", "shop", (NAMESPACE, "shop")),
        ("namespaces", "shop-*", (NAMESPACE, "shop-*")),
        ("namespaces", "*-shop", (NAMESPACE, "*-shop")),
        ("namespaces", "*", (NAMESPACE, "*")),
        ("serviceAccounts", "cart", (PRINCIPAL, "*/ns/demo/sa/cart")),
        ("serviceAccounts", "shop/cart", (PRINCIPAL, "*/ns/shop/sa/cart")),
        ("trustDomains", "other.mesh", (PRINCIPAL, "other.mesh/*")),
        ("trustDomains", "*", (PRINCIPAL, "*")),
    ],
)
def test_who_is_meant_becomes_a_condition(identity: str, value: str, condition: Any) -> None:
    assert _conditions(identity, value) == condition


def test_every_source_has_a_rule_of_its_own() -> None:
    one, two = {"principals": ["a"]}, {"namespaces": ["b"], "ipBlocks": ["10.0.0.0/8"]}
    always = {"key": "request.headers[x]", "values": ["y"]}
    rule = {"from": [{"source": one}, {"source": two}], "to": TO, "when": [always]}
    assert _twin(rule) == [
        {"to": TO, "when": [always, {"key": PRINCIPAL, "values": ["a"]}]},
        {
            "from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}],
            "to": TO,
            "when": [always, {"key": NAMESPACE, "values": ["b"]}],
        },
    ]


def test_what_one_source_says_must_all_be_true() -> None:
    (rule,) = _twin(_from(principals=["a"], namespaces=["b"]))
    assert [each["key"] for each in rule["when"]] == [PRINCIPAL, NAMESPACE]


def test_conditions_on_identities_are_translated_as_sources_are() -> None:
    (rule,) = _twin({"to": TO, "when": [{"key": "source.namespace", "values": ["b"]}]})
    assert rule == {"to": TO, "when": [{"key": NAMESPACE, "values": ["b"]}]}


def test_a_source_without_identities_is_left_to_the_policy() -> None:
    rule = {"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}, {"source": {"principals": ["a"]}}]}
    assert _twin(rule) == [{"when": [{"key": PRINCIPAL, "values": ["a"]}]}]


def test_a_policy_without_identities_has_no_twin() -> None:
    policies = [
        _policy(),
        _policy({}),
        _policy(_from(requestPrincipals=["*"])),
        _policy({"to": TO}),
    ]
    assert authorization(policies, "demo.mesh") == []


def test_a_twin_is_of_the_same_action_for_the_same_workloads() -> None:
    spec = {"action": "DENY", "selector": {"matchLabels": {"app": "a"}}}
    dry = {"istio.io/dry-run": "true"}
    metadata = {"namespace": "istio-system", "annotations": {**dry, "team": "a"}}
    policies = [_policy(_from(principals=["a"]), metadata=metadata, **spec)]
    (document,) = authorization(policies, "demo.mesh")
    (twin,) = document.objects
    assert document.path == "namespaces/istio-system/authorization.yaml"
    assert (twin["metadata"]["name"], twin["metadata"]["namespace"]) == (
        "who-meshkey",
        "istio-system",
    )
    assert twin["metadata"]["annotations"] == dry
    assert {**spec, "rules": twin["spec"]["rules"]} == twin["spec"]


def test_a_twin_does_not_replace_a_policy_of_somebodys_own() -> None:
    own = _policy({}, metadata={"name": "who-meshkey"})
    with pytest.raises(ConfigurationError, match=r"demo/who: its twin would .*who-meshkey"):
        authorization([_policy(_from(principals=["a"])), own], "demo.mesh")
    elsewhere = _policy({}, metadata={"name": "who-meshkey", "namespace": "shop"})
    assert authorization([_policy(_from(principals=["a"])), elsewhere], "demo.mesh")


def test_policies_that_a_cluster_gives_back_have_their_twins_among_them() -> None:
    policies = [_policy(_from(principals=["a"]))]
    documents = authorization(policies, "demo.mesh")
    (twin,) = documents[0].objects
    assert authorization([*policies, policy("a.yaml", twin)], "demo.mesh") == documents


@pytest.mark.parametrize(
    "rule",
    [
        _from(notPrincipals=["a"]),
        _from(notNamespaces=["a"]),
        _from(notServiceAccounts=["a"]),
        _from(notTrustDomains=["a"]),
        _from(principals=["b"], notPrincipals=["a"]),
        {"when": [{"key": "source.principal", "notValues": ["a"]}]},
    ],
)
def test_who_is_not_meant_cannot_be_said(rule: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"true of everybody.*notValues instead") as raised:
        authorization([_policy(rule)], "demo.mesh")
    assert str(raised.value).startswith("a.yaml: AuthorizationPolicy demo/who: rule 0: ")


@pytest.mark.parametrize(
    ("identity", "value"),
    [
        ("namespaces", "a*b"),
        ("namespaces", "*a*"),
        ("serviceAccounts", "a/b/c"),
        ("serviceAccounts", "/b"),
        ("serviceAccounts", "a*"),
        ("trustDomains", "a*"),
        ("principals", ""),
        ("namespaces", None),
        ("principals", 1),
    ],
)
def test_what_has_no_condition_is_named(identity: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"rule 0: {identity}: "):
        authorization([_policy(_from(**{identity: [value]}))], "demo.mesh")
