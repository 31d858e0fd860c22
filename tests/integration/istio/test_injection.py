"""Istio's own injector, its own templates, and ours after them."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.istio.values import Values
from tests.fixtures.istio_injection import gateway, inject, workload
from tests.fixtures.istio_pods import EVERYTHING
from tests.fixtures.istio_values import values
from tests.fixtures.istiod import Refused


def names(pod: dict[str, Any], kind: str) -> list[str]:
    return [each["name"] for each in pod["spec"][kind]]


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [
        each
        for kind in ("initContainers", "containers")
        for each in pod["spec"][kind]
        if each["name"] == name
    ]
    (only,) = found
    return only


def mounts(pod: dict[str, Any], name: str) -> dict[str, Any]:
    return {mount["mountPath"]: mount for mount in container(pod, name)["volumeMounts"]}


def test_the_sidecar_serves_before_anybody_asks_and_outside_of_the_proxys_interception() -> None:
    pod = inject(workload(), values())
    assert names(pod, "initContainers") == ["meshkey-setup", "meshkey", "migrate", "istio-init"]
    assert names(pod, "containers") == ["app", "istio-proxy"]


def test_a_gateway_has_it_too_and_needs_no_rules_of_interception() -> None:
    pod = inject(gateway(), values())
    assert names(pod, "initContainers") == ["meshkey-setup", "meshkey"]
    assert names(pod, "containers") == ["istio-proxy"]
    assert pod["metadata"]["labels"]["meshkey.io/signer"] == "enabled"


@pytest.mark.parametrize("pod", [workload(), gateway()], ids=["workload", "gateway"])
def test_the_proxy_can_load_the_module_and_asks_our_socket(pod: dict[str, Any]) -> None:
    made = inject(pod, values())
    proxy = container(made, "istio-proxy")
    environment = {each["name"]: each.get("value") for each in proxy["env"]}
    assert proxy["image"] == "registry.example/proxy:1"
    assert environment["WORKLOAD_IDENTITY_SOCKET_FILE"] == "meshkey.sock"
    assert environment["ENVOY_DYNAMIC_MODULES_SEARCH_PATH"] == "/usr/lib/meshkey"
    assert mounts(made, "istio-proxy")["/var/run/secrets/workload-spiffe-uds"] == {
        "name": "workload-socket",
        "mountPath": "/var/run/secrets/workload-spiffe-uds",
        "subPath": "sds",
        "readOnly": True,
    }
    # The agent's own files, and the module's waker, are there.
    assert "readOnly" not in mounts(made, "istio-proxy")["/var/run/secrets/credential-uds"]
    assert "readOnly" not in mounts(made, "istio-proxy")["/etc/istio/proxy"]


@pytest.mark.parametrize("pod", [workload(), gateway()], ids=["workload", "gateway"])
def test_the_proxy_is_the_user_that_the_configuration_lets_in(pod: dict[str, Any]) -> None:
    context = container(inject(pod, values()), "istio-proxy")["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (1337, 1337)


@EVERYTHING
def test_every_volume_that_is_mounted_is_there_once(of: Values) -> None:
    for pod in (inject(workload(), of), inject(gateway(), of)):
        defined = names(pod, "volumes")
        assert len(defined) == len(set(defined))
        mounted = {
            mount["name"]
            for kind in ("initContainers", "containers")
            for each in pod["spec"][kind]
            for mount in each.get("volumeMounts", [])
        }
        assert mounted <= set(defined)


def test_the_sidecar_names_the_cluster_as_istio_does() -> None:
    pod = inject(workload(), values())
    ours = {e["name"]: e.get("value") for e in container(pod, "meshkey")["env"]}
    theirs = {e["name"]: e.get("value") for e in container(pod, "istio-proxy")["env"]}
    assert ours["MESHKEY_CA_CLUSTER_ID"] == theirs["ISTIO_META_CLUSTER_ID"] == "Kubernetes"
    assert theirs["TRUST_DOMAIN"] == "bank.example"


def test_a_pod_that_does_not_ask_for_it_is_as_ever() -> None:
    pod = workload()
    pod["metadata"]["annotations"] = {}
    made = inject(pod, values())
    assert names(made, "initContainers") == ["migrate", "istio-init"]
    assert "meshkey.io/signer" not in made["metadata"]["labels"]
    assert not [name for name in names(made, "volumes") if name.startswith("meshkey")]


def test_a_native_proxy_is_refused_whoever_asks_for_it() -> None:
    with pytest.raises(Refused, match="native istio-proxy would wait for its own signer"):
        inject(workload(), values(), native_sidecars="true")
    native = workload(**{"sidecar.istio.io/nativeSidecar": "true"})
    with pytest.raises(Refused, match="install istiod with ENABLE_NATIVE_SIDECARS=false"):
        inject(native, values())


def test_a_pods_own_annotation_is_enough_where_istiod_makes_native_proxies() -> None:
    pod = workload(**{"sidecar.istio.io/nativeSidecar": "false"})
    made = inject(pod, values(), native_sidecars="true")
    assert names(made, "containers") == ["app", "istio-proxy"]


def test_a_proxy_that_is_root_is_refused() -> None:
    pod = workload(**{"sidecar.istio.io/interceptionMode": "TPROXY"})
    with pytest.raises(Refused, match="TPROXY istio-proxy is root"):
        inject(pod, values())


def test_the_nodes_profiles_are_on_the_sidecar_and_the_proxy() -> None:
    made = inject(workload(), values(node_profiles=True))
    for name, profile in (("meshkey", "sidecar"), ("istio-proxy", "proxy")):
        context = container(made, name)["securityContext"]
        assert context["seccompProfile"]["localhostProfile"] == f"meshkey/{profile}.json"
        assert context["appArmorProfile"]["localhostProfile"] == f"meshkey-{profile}"
    assert container(made, "istio-proxy")["securityContext"]["runAsNonRoot"] is True
