"""Istio's AuthorizationPolicies by identity, on proxies with meshkey as on Istio's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from sidecar.demo.mesh import TRUST_DOMAIN
from tests.e2e.istio.applications import said_back
from tests.e2e.istio.ours import values
from tests.e2e.istio.plan import Injected, Plan, Pod
from tests.e2e.istio.scene import Configuration, Scene
from tests.e2e.lab import Lab
from tests.e2e.peers import Files, client_context
from tests.e2e.programs import curl

CLIENT, BANNED, STRANGER = (("demo", "client"), ("demo", "banned"), ("elsewhere", "stranger"))
TEAM = ("team", "worker")
# (caller, path) and the status that it must get.
EXPECTED = {
    (CLIENT, "/by-principal"): 200,
    (STRANGER, "/by-principal"): 403,
    (TEAM, "/by-principal"): 403,
    (TEAM, "/by-namespace"): 200,
    (CLIENT, "/by-namespace"): 403,
    (STRANGER, "/open"): 200,
    (BANNED, "/open"): 403,
    (STRANGER, "/nothing-said"): 403,
}


def policies(app: str) -> Sequence[Mapping[str, Any]]:
    """Three that allow, one that denies, for one workload, and two for its TCP port."""
    client = {"principals": [principal(*CLIENT)]}
    # What keeps the stranger out is the one that denies.
    both = {"principals": [principal(*CLIENT), principal(*STRANGER)]}
    return [
        policy(app, "principal", "ALLOW", {"paths": ["/by-principal"]}, client),
        policy(app, "namespace", "ALLOW", {"paths": ["/by-namespace"]}, {"namespaces": ["team"]}),
        policy(app, "open", "ALLOW", {"paths": ["/open"]}),
        policy(app, "banned", "DENY", {"paths": ["/*"]}, {"principals": [principal(*BANNED)]}),
        policy(app, "tcp", "ALLOW", {"ports": ["9000"]}, both),
        policy(app, "tcp-banned", "DENY", {"ports": ["9000"]}, {"namespaces": ["elsewhere"]}),
    ]


def policy(
    app: str,
    name: str,
    action: str,
    operation: Mapping[str, Any],
    source: Mapping[str, Any] | None = None,
) -> Mapping[str, Any]:
    rule = {"to": [{"operation": operation}], **({"from": [{"source": source}]} if source else {})}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": f"{app}-{name}", "namespace": "demo"},
        "spec": {"selector": {"matchLabels": {"app": app}}, "action": action, "rules": [rule]},
    }


def principal(namespace: str, account: str) -> str:
    return f"{TRUST_DOMAIN}/ns/{namespace}/sa/{account}"


@pytest.fixture(scope="module")
def pods(lab: Lab) -> Iterator[Mapping[str, Pod]]:
    """`guarded` has meshkey, `istio` its own key, and both have the policies; those of
    `forgotten`, with meshkey, were not given to `meshkey istio generate`."""
    with ExitStack() as stack:
        plan = stack.enter_context(Plan())
        every = [
            plan.pod("guarded", "demo"),
            plan.pod("forgotten", "demo"),
            plan.pod("istio", "demo", Injected.ISTIO),
        ]
        for pod in every:
            plan.service(pod.name, "demo", {"http-web": 8000, "tcp-echo": 9000}, pod)
        document = values(plan, {"demo": "strict"})
        told, forgotten = [*policies("guarded"), *policies("istio")], policies("forgotten")
        scene = stack.enter_context(Scene(lab, plan, Configuration(document, told, forgotten)))
        scene.start(*every)
        yield {pod.name: pod for pod in every}


@pytest.fixture(scope="module")
def keys(lab: Lab) -> Mapping[tuple[str, str], Files]:
    """Certificates of the callers."""
    callers = {caller for caller, _ in EXPECTED}
    return {each: lab.forge.certify(f"spiffe://{principal(*each)}") for each in callers}


@pytest.mark.parametrize("proxy", ["guarded", "istio"])
@pytest.mark.parametrize(
    ("caller", "path"), EXPECTED, ids=["-".join((*caller, path[1:])) for caller, path in EXPECTED]
)
def test_a_policy_decides_about_a_request_as_it_does_without_meshkey(
    pods: Mapping[str, Pod],
    keys: Mapping[tuple[str, str], Files],
    proxy: str,
    caller: tuple[str, str],
    path: str,
) -> None:
    answer = curl(f"https://{pods[proxy].address}:8000{path}", credentials=keys[caller])
    assert answer.status == EXPECTED[caller, path], answer


@pytest.mark.parametrize("proxy", ["guarded", "istio"])
@pytest.mark.parametrize(
    ("caller", "echoed"),
    [(CLIENT, b"hello"), (STRANGER, b""), (TEAM, b"")],
    ids=["client", "stranger", "team"],
)
def test_and_about_a_tcp_connection(
    pods: Mapping[str, Pod],
    keys: Mapping[tuple[str, str], Files],
    proxy: str,
    caller: tuple[str, str],
    echoed: bytes,
) -> None:
    address = (pods[proxy].address, 9000)
    assert said_back(address, client_context(keys[caller])) == echoed


def test_without_its_twin_a_policy_that_denies_keeps_nobody_out(
    pods: Mapping[str, Pod], keys: Mapping[tuple[str, str], Files]
) -> None:
    """Why `policies` belong into the values: Istio's filters ask Envoy's own TLS for principals."""
    url = f"https://{pods['forgotten'].address}:8000"
    assert curl(f"{url}/open", credentials=keys[BANNED]).status == 200


def test_without_its_twin_a_policy_that_allows_lets_nobody_in(
    pods: Mapping[str, Pod], keys: Mapping[tuple[str, str], Files]
) -> None:
    url = f"https://{pods['forgotten'].address}:8000"
    assert curl(f"{url}/by-principal", credentials=keys[CLIENT]).status == 403
    assert curl(f"{url}/by-namespace", credentials=keys[TEAM]).status == 403
