"""NetworkPolicies: where sidecars may go."""

from __future__ import annotations

from typing import Any

from sidecar.istio.pods.network_policy import network_policies
from tests.fixtures.istio_values import values


def spec(**changes: Any) -> dict[str, Any]:
    document, _ = network_policies(values(**changes))
    (policy,) = document.objects
    found: dict[str, Any] = policy["spec"]
    return found


def routes(**changes: Any) -> list[tuple[Any, list[int]]]:
    """Whereto, by namespace, and the ports; None is everywhere."""
    return [
        (
            each["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            if "to" in each
            else None,
            sorted({port["port"] for port in each["ports"]}),
        )
        for each in spec(**changes)["egress"]
    ]


def test_it_is_about_egress_of_injected_pods_alone() -> None:
    assert spec()["podSelector"] == {"matchLabels": {"meshkey.io/signer": "enabled"}}
    assert spec()["policyTypes"] == ["Egress"]
    assert "ingress" not in spec()


def test_names_and_the_control_plane_are_reached() -> None:
    assert routes() == [("kube-system", [53]), ("istio-system", [15012])]


def test_the_control_plane_is_that_of_the_revision() -> None:
    (peer,) = spec(istio={"revision": "canary", "namespace": "mesh"})["egress"][1]["to"]
    assert peer["podSelector"]["matchLabels"] == {"app": "istiod", "istio.io/rev": "canary"}


def test_another_ca_is_reached_too() -> None:
    assert routes(ca={"kind": "istio-csr"})[2:] == [("cert-manager", [6443])]
    assert routes(ca={"kind": "kubernetes", "signer": "a.b/c"})[2:] == [(None, [443, 6443])]
