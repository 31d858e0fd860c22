"""The injection templates: what istiod merges onto a pod."""

from __future__ import annotations

import pytest

from sidecar.istio.pods.template import GATEWAY, WORKLOAD, templates
from sidecar.istio.values import Values
from tests.fixtures.istio_pods import EVERYTHING, KUBERNETES, container, pod
from tests.fixtures.istio_values import values

# What Istio's own templates bring.
_ISTIOS_VOLUMES = {"workload-socket", "istio-token", "istiod-ca-cert"}


@EVERYTHING
def test_the_setup_ends_before_the_sidecar_starts_and_that_one_goes_on(of: Values) -> None:
    setup, sidecar = pod(of)["spec"]["initContainers"]
    assert (setup["name"], sidecar["name"]) == ("meshkey-setup", "meshkey")
    assert "restartPolicy" not in setup
    assert sidecar["restartPolicy"] == "Always"
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= sidecar.keys()
    assert not {"startupProbe", "readinessProbe", "livenessProbe"} & setup.keys()


@EVERYTHING
def test_our_containers_are_no_root_not_the_proxy_and_cannot_become_more(of: Values) -> None:
    for each in pod(of)["spec"]["initContainers"]:
        context = each["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == (1338, 1337)
        assert context["runAsNonRoot"] is True
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {"cpu", "memory"} <= each["resources"]["limits"].keys()


@EVERYTHING
def test_the_proxy_may_write_to_nothing_of_ours_and_sees_neither_store_nor_commands(
    of: Values,
) -> None:
    mounts = container(of, "istio-proxy")["volumeMounts"]
    assert all(mount["readOnly"] for mount in mounts)
    places = {(mount["name"], mount.get("subPath")) for mount in mounts}
    assert places == {
        ("meshkey-sockets", "signer"),
        ("meshkey-module", "lib"),
        ("meshkey-peers", None),
        ("workload-socket", "sds"),
    }


@EVERYTHING
def test_nothing_but_the_setup_mounts_a_volume_of_ours_whole(of: Values) -> None:
    shared = {"meshkey-sockets", "meshkey-module", "meshkey-store", "workload-socket"}
    for name in ("meshkey", "istio-proxy"):
        for mount in container(of, name)["volumeMounts"]:
            assert ("subPath" in mount) == (mount["name"] in shared), mount


@EVERYTHING
def test_every_volume_that_is_mounted_is_there_once(of: Values) -> None:
    spec = pod(of)["spec"]
    defined = [volume["name"] for volume in spec["volumes"]]
    mounted = {
        mount["name"]
        for each in (*spec["initContainers"], *spec["containers"])
        for mount in each["volumeMounts"]
    }
    assert len(defined) == len(set(defined))
    assert set(defined) == mounted - _ISTIOS_VOLUMES


@EVERYTHING
def test_no_secret_is_in_arguments_or_environment(of: Values) -> None:
    for name in ("meshkey-setup", "meshkey", "istio-proxy"):
        each = container(of, name)
        for variable in each.get("env", []):
            assert "secretKeyRef" not in str(variable)
            assert "PIN" not in variable["name"]
        assert "envFrom" not in each
    setup = container(of, "meshkey-setup")
    assert setup["args"][0] == "prepare-pod"
    assert setup["args"][1:] in (["--softhsm2", "mesh"], ["--pin", "/pod/pin/mesh.pin"])


def test_a_pin_that_is_a_secret_is_the_setups_alone() -> None:
    of = values(token="tpm2")
    assert "meshkey-pin" in {m["name"] for m in container(of, "meshkey-setup")["volumeMounts"]}
    for name in ("meshkey", "istio-proxy"):
        assert "meshkey-pin" not in {m["name"] for m in container(of, name)["volumeMounts"]}


def test_stores_and_sockets_are_in_memory() -> None:
    volumes = {volume["name"]: volume for volume in pod(values())["spec"]["volumes"]}
    for name in ("meshkey-store", "meshkey-sockets"):
        assert volumes[name]["emptyDir"]["medium"] == "Memory"
        assert "sizeLimit" in volumes[name]["emptyDir"]


def test_the_proxy_asks_for_a_socket_that_its_agent_would_not_make_itself() -> None:
    proxy = container(values(), "istio-proxy")
    environment = {each["name"]: each["value"] for each in proxy["env"]}
    assert environment["WORKLOAD_IDENTITY_SOCKET_FILE"] == "meshkey.sock"
    assert environment["ENVOY_DYNAMIC_MODULES_SEARCH_PATH"] == "/usr/lib/meshkey"
    assert proxy["image"] == "registry.example/proxy:1"


@pytest.mark.parametrize("name", [WORKLOAD, GATEWAY])
def test_filters_select_exactly_the_pods_that_were_injected(name: str) -> None:
    assert pod(values(), name)["metadata"]["labels"] == {"meshkey.io/signer": "enabled"}


def test_a_workload_is_refused_where_it_would_deadlock_or_give_its_keys_away() -> None:
    text = templates(values())[WORKLOAD]
    assert text.count("{{- fail ") == 3
    assert "ENABLE_NATIVE_SIDECARS=false" in text
    assert templates(values())[GATEWAY].count("{{- fail ") == 1


def test_devices_are_asked_for_by_the_sidecar_alone_and_may_have_other_names() -> None:
    limits = container(values(token="tpm2"), "meshkey")["resources"]["limits"]
    assert limits["githedgehog.com/tpmrm"] == "1"
    other = values(token="tpm2", devices={"tpm.example/tpmrm": 2})
    resources = container(other, "meshkey")["resources"]
    assert resources["limits"]["tpm.example/tpmrm"] == "2"
    # Kubernetes: of an extended resource as much as is the limit is requested.
    assert resources["requests"]["tpm.example/tpmrm"] == "2"
    assert "githedgehog.com/tpmrm" not in resources["limits"]
    assert "tpm.example/tpmrm" not in container(other, "meshkey-setup")["resources"]["limits"]


@pytest.mark.parametrize(("name", "profile"), [("meshkey", "sidecar"), ("istio-proxy", "proxy")])
def test_the_nodes_profiles_are_used_where_they_are_said_to_be(name: str, profile: str) -> None:
    context = container(values(node_profiles=True), name)["securityContext"]
    assert context["seccompProfile"] == {
        "type": "Localhost",
        "localhostProfile": f"meshkey/{profile}.json",
    }
    assert context["appArmorProfile"] == {
        "type": "Localhost",
        "localhostProfile": f"meshkey-{profile}",
    }


def test_without_them_the_proxys_context_is_istios() -> None:
    assert "securityContext" not in container(values(), "istio-proxy")


def test_the_api_is_reached_with_a_token_of_its_own_and_only_where_it_signs() -> None:
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    paths = {m["mountPath"] for m in container(values(**KUBERNETES), "meshkey")["volumeMounts"]}
    assert path in paths
    assert "/var/run/secrets/tokens" not in paths
    paths = {m["mountPath"] for m in container(values(), "meshkey")["volumeMounts"]}
    assert path not in paths
    assert "/var/run/secrets/tokens" in paths
