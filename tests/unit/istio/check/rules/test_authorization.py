from __future__ import annotations

import pytest
import yaml

from sidecar.istio.mesh.authorization import authorization
from sidecar.istio.mesh.policies import policy as parsed
from tests.fixtures.marked import findings, found, marked
from tests.unit.istio.check.rules.texts import MESH, outbound, workload


def policy(rules: str, action: str = "ALLOW", namespace: str = "demo", selector: str = "{}") -> str:
    return f"""\
kind: AuthorizationPolicy
metadata: {{name: callers, namespace: {namespace}}}
spec:
  action: {action}
  selector: {{matchLabels: {selector}}}
  rules:
{rules}"""


def by(source: str, mark: str = " # << policy-without-twin") -> str:
    return f"  - from:\n    - source:\n        {source}{mark}\n"


PRINCIPALS = "principals: [bank.example/ns/demo/sa/client]"


def twin(text: str) -> str:
    """What `generate` makes of it."""
    made = authorization([parsed("", yaml.safe_load(text))], "bank.example")
    return made[0].text()


@pytest.mark.parametrize("action", ["ALLOW", "DENY", "AUDIT"])
@pytest.mark.parametrize(
    "source",
    [
        PRINCIPALS,
        "namespaces: [demo]",
        "serviceAccounts: [demo/client]",
        "trustDomains: [bank.example]",
    ],
)
def test_a_policy_by_identity_without_its_twin_is_found(action: str, source: str) -> None:
    bad = policy(by(source), action)
    assert found(bad, outbound(), MESH) == marked(bad)
    assert found(bad, twin(bad), outbound(), MESH) == set()


@pytest.mark.parametrize(
    ("action", "happens"),
    [("ALLOW", "lets nobody in"), ("DENY", "keeps nobody out"), ("AUDIT", "never applies")],
)
def test_what_follows_from_a_missing_twin_is_said(action: str, happens: str) -> None:
    [finding] = findings(policy(by(PRINCIPALS), action), outbound())
    assert happens in finding.happens


def test_a_condition_on_an_identity_without_its_twin_is_found() -> None:
    bad = policy("  - when:\n    - key: source.principal\n      values: [a/ns/b/sa/c]\n")
    [line] = [n for n, each in enumerate(bad.splitlines(), 1) if "source.principal" in each]
    assert found(bad, outbound()) == {("0", line, "policy-without-twin")}


@pytest.mark.parametrize(
    "source", ["notPrincipals: [a/ns/b/sa/c]", "notNamespaces: [a]", "notServiceAccounts: [a]"]
)
@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_a_policy_for_everybody_but_someone_is_found(source: str, action: str) -> None:
    bad = policy(by(source, " # << inverted-identity"), action)
    assert found(bad, outbound()) == marked(bad)


def test_a_condition_for_everybody_but_someone_is_found() -> None:
    bad = policy(
        "  - when:\n    - key: source.namespace\n      notValues: [a] # << inverted-identity\n"
    )
    assert found(bad, outbound()) == marked(bad)


def test_a_policy_that_cannot_be_said_otherwise_is_found() -> None:
    bad = policy(by("namespaces: [a*b]", " # << policy-without-words"))
    assert found(bad, outbound()) == marked(bad)


def test_a_twin_of_an_older_policy_is_found() -> None:
    old = twin(policy(by(PRINCIPALS))).replace(
        "  name: callers-meshkey", "  name: callers-meshkey # << stale-twin"
    )
    new = policy(by("principals: [bank.example/ns/demo/sa/other]", ""))
    assert found(old, new, outbound(), MESH) == marked(old)
    fewer = policy(by(PRINCIPALS, "") + by("namespaces: [other]", ""))
    assert found(old, fewer, outbound(), MESH) == marked(old)
    tried = policy(by(PRINCIPALS, "")).replace(
        "namespace: demo", 'namespace: demo, annotations: {istio.io/dry-run: "true"}'
    )
    assert found(old, tried, outbound(), MESH) == marked(old)
    assert found(twin(tried), tried, outbound(), MESH) == set()
    denied = policy(by(PRINCIPALS, ""), "DENY")
    assert found(old, denied, outbound(), MESH) == marked(old)


@pytest.mark.parametrize(
    "rules",
    [
        "  - from:\n    - source: {ipBlocks: [10.0.0.0/8]}\n",
        "  - to:\n    - operation: {methods: [GET]}\n",
        "  - from:\n    - source: {requestPrincipals: [a/b]}\n",
        '  - when:\n    - {key: "experimental.envoy.filters.meshkey[principal]", notValues: [a]}\n',
    ],
)
def test_a_policy_without_identities_is_right(rules: str) -> None:
    assert found(policy(rules), outbound()) == set()


def test_a_policy_elsewhere_is_nobodys_business() -> None:
    assert found(policy(by(PRINCIPALS), namespace="other"), outbound()) == set()


def test_a_policy_of_the_whole_mesh_is_ours_too() -> None:
    bad = policy(by(PRINCIPALS), namespace="istio-system")
    assert found(bad, outbound()) == marked(bad)
    assert found(bad) == set()


def test_a_policy_for_a_workload_without_the_sidecar_is_nobodys_business() -> None:
    other = workload().replace("sidecar,signer", "sidecar")
    bad = policy(by(PRINCIPALS), selector="{app: server}")
    assert found(bad, outbound(), other) == set()
    assert found(bad, outbound(), workload()) == marked(bad)
    assert found(bad, outbound()) == marked(bad)


def test_a_policy_of_a_waypoint_is_nobodys_business() -> None:
    waypoint = policy(by(PRINCIPALS)).replace(
        "  rules:", "  targetRefs: [{kind: Service}]\n  rules:"
    )
    assert found(waypoint, outbound()) == set()
