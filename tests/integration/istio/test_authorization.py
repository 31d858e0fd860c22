"""Policies and their twins, rendered by the real istiod: on our connections they decide together
as the policies alone do where TLS is Envoy's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sidecar.istio.mesh.authorization import authorization
from sidecar.istio.mesh.policies import policy
from tests.fixtures.rbac import Asked, holds
from tests.integration.istio.dumps import Dump, Json, http_filters, sent
from tests.integration.istio.scene import HTTP, TCP, WORKLOAD, objects

TRUST_DOMAIN = "demo.mesh"
IDENTITIES = [
    f"{domain}/ns/{namespace}/sa/{name}"
    for domain in (TRUST_DOMAIN, "cluster.local", "demo.mesh.example")
    for namespace in ("demo", "shop", "workshop", "shop-2")
    for name in ("cart", "shop", "minicart")
]
PRINCIPALS = st.sampled_from(
    [
        *IDENTITIES,
        "*",
        "*/sa/cart",
        "*cart",
        "*/ns/shop/sa/cart",
        "cluster.local/ns/shop/sa/*",
        "cluster.local/ns/shop/*",
        "demo.mesh*",
        "demo.mesh/ns/shop*",
        "sa/cart",
    ]
)
NAMESPACES = st.sampled_from(["demo", "shop", "*", "shop*", "*op", "*-2", "none"])
ACCOUNTS = st.sampled_from(["cart", "shop/cart", "workshop/shop", "demo/minicart", "none"])
DOMAINS = st.sampled_from([TRUST_DOMAIN, "cluster.local", "other", "*"])
ADDRESSES = st.sampled_from(["10.0.0.0/8", "192.168.0.1"])


def _some(values: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(values, min_size=1, max_size=2, unique=True)


ELSEWHERE = {"ipBlocks": _some(ADDRESSES), "notIpBlocks": _some(ADDRESSES)}
# Istio refuses empty sources, and service accounts beside principals and namespaces.
BY_NAMESPACE = {"namespaces": _some(NAMESPACES)}
BY_DOMAIN = {"trustDomains": _some(DOMAINS)}
SOURCES = st.one_of(
    st.fixed_dictionaries(
        {"principals": _some(PRINCIPALS)},
        optional={**BY_NAMESPACE, **BY_DOMAIN, **ELSEWHERE},
    ),
    st.fixed_dictionaries(BY_NAMESPACE, optional=ELSEWHERE),
    st.fixed_dictionaries(
        {"serviceAccounts": _some(ACCOUNTS)}, optional={**BY_DOMAIN, **ELSEWHERE}
    ),
    st.fixed_dictionaries({"ipBlocks": ELSEWHERE["ipBlocks"]}, optional=BY_DOMAIN),
)
CONDITIONS = st.one_of(
    st.builds(lambda each: {"key": "source.principal", "values": each}, _some(PRINCIPALS)),
    st.builds(lambda each: {"key": "source.namespace", "values": each}, _some(NAMESPACES)),
    st.just({"key": "destination.port", "values": ["80"]}),
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "from": st.lists(st.builds(lambda each: {"source": each}, SOURCES), min_size=1, max_size=2),
        "to": st.just([{"operation": {"ports": ["80"]}}]),
        "when": st.lists(CONDITIONS, min_size=1, max_size=2),
    },
)
SPECS = st.fixed_dictionaries(
    {
        "action": st.sampled_from(["ALLOW", "DENY"]),
        "rules": st.lists(RULES, min_size=1, max_size=2),
    }
)


def _policy(name: str, spec: Json) -> Json:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": spec,
    }


def _with_twins(policies: Sequence[Json]) -> list[Json]:
    documents = authorization([policy("file", each) for each in policies], TRUST_DOMAIN)
    return [*policies, *(twin for document in documents for twin in document.objects)]


def _rendered(policies: Sequence[Json], port: int) -> Mapping[str, Mapping[str, Json]]:
    """By the filter's action: its policies."""
    dump = sent([*objects(), *policies], WORKLOAD, TRUST_DOMAIN)
    return {
        rules.get("action", "ALLOW"): rules.get("policies", {}) for rules in _all_rules(dump, port)
    }


def _all_rules(dump: Dump, port: int) -> Iterator[Json]:
    chains = dump.chains("virtualInbound")
    match = {"destination_port": port + 100}
    (first, *_) = (each for each in chains if match.items() <= each["filter_chain_match"].items())
    for each in [*http_filters(first), *first["filters"]]:
        if each["name"] in ("envoy.filters.http.rbac", "envoy.filters.network.rbac"):
            yield each["typed_config"]["rules"]


def _ours(identity: str) -> Mapping[str, str]:
    _, _, namespace, _, _ = identity.split("/")
    return {"principal": identity, "namespace": namespace}


def _decides(rendered: Mapping[str, Mapping[str, Json]], name: str, asked: Asked) -> bool:
    """Any rule of the policy or of its twin, in whichever filter."""
    names = (f"ns[demo]-policy[{name}]-", f"ns[demo]-policy[{name}-meshkey]-")
    rules = (rule for rules in rendered.values() for rule in rules.items())
    return any(holds(rule, asked) for key, rule in rules if key.startswith(names))


@pytest.mark.parametrize("port", [HTTP, TCP])
@settings(max_examples=10, phases=[Phase.generate])  # istiod is too slow to shrink by
@given(specs=st.lists(SPECS, min_size=10, max_size=20))
def test_a_policy_with_its_twin_means_what_istio_means(port: int, specs: list[Any]) -> None:
    policies = {f"p{index}": _policy(f"p{index}", spec) for index, spec in enumerate(specs)}
    rendered = _rendered(_with_twins(list(policies.values())), port)
    places = itertools.product(("10.1.2.3", "192.168.0.1"), (80, 81))
    for (name, each), (address, port_), identity in itertools.product(
        policies.items(), places, IDENTITIES
    ):
        theirs = Asked(uri=f"spiffe://{identity}", address=address, port=port_)
        ours = Asked(metadata=_ours(identity), address=address, port=port_)
        assert _decides(rendered, name, ours) == _decides(rendered, name, theirs), (each, ours)


DENY = {"action": "DENY", "rules": [{"from": [{"source": {"namespaces": ["shop"]}}]}]}
ALLOW = {"action": "ALLOW", "rules": [{"from": [{"source": {"namespaces": ["shop", "demo"]}}]}]}
ANYBODY = {"action": "ALLOW", "rules": [{"to": [{"operation": {"ports": ["81"]}}]}]}
BOTH = [_policy("deny", DENY), _policy("allow", ALLOW), _policy("anybody", ANYBODY)]


@pytest.mark.parametrize("port", [HTTP, TCP])
def test_twins_stand_beside_policies_of_their_action_and_change_none(port: int) -> None:
    before, after = _rendered(BOTH, port), _rendered(_with_twins(BOTH), port)
    assert before.keys() == after.keys() == {"ALLOW", "DENY"}
    for action, twin in (("ALLOW", "allow"), ("DENY", "deny")):
        added = f"ns[demo]-policy[{twin}-meshkey]-rule[0]"
        assert after[action] == {**before[action], added: after[action][added]}


@pytest.mark.parametrize("port", [HTTP, TCP])
def test_without_a_twin_nobody_on_our_connections_is_kept_out_or_let_in(port: int) -> None:
    rendered = _rendered(BOTH, port)
    for identity in IDENTITIES:
        asked = Asked(metadata=_ours(identity))
        assert not _decides(rendered, "deny", asked)
        assert not _decides(rendered, "allow", asked)


@pytest.mark.parametrize("port", [HTTP, TCP])
def test_a_twin_is_true_of_nobody_whom_the_module_does_not_know(port: int) -> None:
    rendered = _rendered(_with_twins(BOTH), port)
    twins = [rule for rules in rendered.values() for key, rule in rules.items() if "meshkey" in key]
    assert len(twins) == len((DENY, ALLOW))
    for identity, rule in itertools.product([None, *IDENTITIES], twins):
        assert not holds(rule, Asked(uri=identity and f"spiffe://{identity}"))


@pytest.mark.parametrize("port", [HTTP, TCP])
def test_a_condition_on_our_attributes_can_say_who_is_not_meant(port: int) -> None:
    key = "experimental.envoy.filters.meshkey[principal]"
    rule = {"when": [{"key": key, "notValues": ["*/ns/shop/sa/cart"]}]}
    rendered = _rendered([_policy("not", {"action": "DENY", "rules": [rule]})], port)
    for identity in IDENTITIES:
        kept_out = _decides(rendered, "not", Asked(metadata=_ours(identity)))
        assert kept_out == (not identity.endswith("/ns/shop/sa/cart"))
