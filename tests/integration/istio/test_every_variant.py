"""Each token on each CA: what is generated is what Kubernetes knows, after injection too."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from sidecar.istio.generate import generated
from sidecar.istio.values import Values
from tests.fixtures.istio_injection import GATEWAY, WORKLOAD, inject
from tests.fixtures.istio_pods import EVERYTHING, pod
from tests.fixtures.istio_values import values
from tests.fixtures.istiod import Refused

BOTH = pytest.mark.parametrize("kind", [WORKLOAD, GATEWAY], ids=["workload", "gateway"])


def check(each: Any) -> None:
    """Strictly: a field that the schema does not know is refused."""
    kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [
        each
        for kind in ("initContainers", "containers")
        for each in pod["spec"][kind]
        if each["name"] == name
    ]
    (only,) = found
    return only


@EVERYTHING
def test_kubernetes_knows_every_field_of_its_objects(of: Values) -> None:
    groups = ("v1", "rbac.authorization.k8s.io/v1", "networking.k8s.io/v1")
    objects = [
        each
        for document in generated(of)
        for each in document.objects
        if each.get("apiVersion") in groups
    ]
    assert {"ConfigMap", "NetworkPolicy"} <= {each["kind"] for each in objects}
    for each in objects:
        check(each)


@EVERYTHING
@pytest.mark.parametrize("name", ["signer", "signer-gateway"])
def test_kubernetes_knows_every_field_of_a_template(name: str, of: Values) -> None:
    """The injector would leave out what it does not know, without a word."""
    check({"apiVersion": "v1", "kind": "Pod", **pod(of, name)})


@BOTH
@EVERYTHING
def test_kubernetes_knows_every_field_of_an_injected_pod_and_each_mounted_volume_is_there_once(
    kind: tuple[str, dict[str, Any]], of: Values
) -> None:
    injected = inject(kind, of)
    check(injected)
    spec = injected["spec"]
    defined = [volume["name"] for volume in spec["volumes"]]
    assert len(defined) == len(set(defined))
    mounted = {
        mount["name"]
        for each in (*spec["initContainers"], *spec["containers"])
        for mount in each.get("volumeMounts", [])
    }
    assert mounted <= set(defined)


@BOTH
def test_the_sidecar_names_the_cluster_and_its_domain_as_istio_does(
    kind: tuple[str, dict[str, Any]],
) -> None:
    pod = inject(kind, values())
    ours = {each["name"]: each.get("value") for each in container(pod, "meshkey")["env"]}
    theirs = {each["name"]: each.get("value") for each in container(pod, "istio-proxy")["env"]}
    assert ours["MESHKEY_CA_CLUSTER_ID"] == theirs["ISTIO_META_CLUSTER_ID"] == "Kubernetes"
    assert theirs["TRUST_DOMAIN"] == "bank.example"
    assert str(ours["MESHKEY_IDENTITY_SPIFFE_ID"]).startswith("spiffe://bank.example/")


@BOTH
def test_the_nodes_profiles_are_on_the_sidecar_and_the_proxy(
    kind: tuple[str, dict[str, Any]],
) -> None:
    pod = inject(kind, values(node_profiles=True))
    check(pod)
    for name, profile in (("meshkey", "sidecar"), ("istio-proxy", "proxy")):
        context = container(pod, name)["securityContext"]
        assert context["seccompProfile"]["localhostProfile"] == f"meshkey/{profile}.json"
        assert context["appArmorProfile"]["localhostProfile"] == f"meshkey-{profile}"
    assert container(pod, "istio-proxy")["securityContext"]["runAsUser"] == 1337


@pytest.mark.parametrize(
    "annotation",
    [
        {"sidecar.istio.io/interceptionMode": "TPROXY"},
        {"sidecar.istio.io/capNetBindService": "true"},
    ],
    ids=lambda each: next(iter(each)),
)
def test_a_proxy_that_would_be_root_is_refused(annotation: dict[str, str]) -> None:
    with pytest.raises(Refused, match="istio-proxy is root, for whom nothing is signed"):
        inject(WORKLOAD, values(), **annotation)
