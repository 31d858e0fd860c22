"""The templates, merged onto Istio's own by Istio's own injector, over pods as users have them."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from sidecar.istio.names import (
    ADMIN_SOCKET,
    MODULE_DIRECTORY,
    SDS_DIRECTORY,
    SIGNER_LABEL,
    SIGNER_SOCKET,
)
from tests.fixtures import istiod
from tests.fixtures.istio_chart import SHARED, built_in_templates
from tests.fixtures.istio_installed import GATEWAY, ISTIOD, Injector, Installed, by_helm
from tests.integration.istio.overlays import VARIANTS, WITH_GATEWAY, installed

_TEMPLATES = {"module": None, "shared": SHARED}
_APP = {"name": "app", "image": "registry.example/app:1"}
_STORE = "/var/lib/meshkey"


def pod(
    spec: dict[str, Any] | None = None, templates: str = "sidecar,signer", **annotations: str
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "server",
            "namespace": "demo",
            "labels": {"app": "server"},
            "annotations": {"inject.istio.io/templates": templates, **annotations},
        },
        "spec": {"serviceAccountName": "server", "containers": [_APP], **(spec or {})},
    }


_PODS = {
    "plain": pod(),
    "own init container": pod({"initContainers": [{**_APP, "name": "migrate"}]}),
    "own security": pod(
        {
            "securityContext": {"fsGroup": 2000, "runAsUser": 1000, "runAsNonRoot": True},
            "automountServiceAccountToken": False,
        }
    ),
    "own sidecar": pod({"initContainers": [{**_APP, "name": "logs", "restartPolicy": "Always"}]}),
    "job": pod({"restartPolicy": "Never"}, **{"sidecar.istio.io/nativeSidecar": "false"}),
}


def gateway(variant: str) -> dict[str, Any]:
    """A pod of the gateway chart's Deployment."""
    chart = by_helm(GATEWAY, installed(variant, "gateway-values.yaml"), "ingress")
    template = chart.find("Deployment", "ingress")["spec"]["template"]
    metadata = {**template["metadata"], "name": "ingress-1", "namespace": "istio-ingress"}
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}


@cache
def installation(variant: str) -> Installed:
    """The control plane of a variant, by Helm."""
    return by_helm(ISTIOD, installed(variant, "istiod-values.yaml"))


def injector(variant: str = "softhsm2") -> Injector:
    return Injector.of(installation(variant))


@pytest.fixture(params=_TEMPLATES)
def built_in(request: pytest.FixtureRequest) -> Path | None:
    files: Path | None = _TEMPLATES[request.param]
    if files and not files.is_dir():
        pytest.skip(f"{files} is not here; the module's templates are tried")
    return files


@pytest.mark.parametrize(
    ("variant", "kind"),
    [*itertools.product(VARIANTS, _PODS), *((each, "gateway") for each in WITH_GATEWAY)],
)
def test_an_injected_pod_keeps_what_it_must(kind: str, variant: str, built_in: Path | None) -> None:
    templates = built_in_templates(built_in) if built_in else {}
    asked = gateway(variant) if kind == "gateway" else _PODS[kind]
    made = injector(variant).with_templates(templates).inject(asked)
    kubernetes_validate.validate(made, kubernetes_validate.latest_version(), strict=True)
    check_order(made)
    check_security(made)
    check_mounts(made)
    check_probes(made)
    check_environment(made)
    assert made["metadata"]["labels"].items() >= SIGNER_LABEL.items()


def check_order(made: dict[str, Any]) -> None:
    """The sidecar serves before the proxy starts, and before iptables catches its calls."""
    first = [each["name"] for each in made["spec"]["initContainers"]]
    last = [each["name"] for each in made["spec"]["containers"]]
    assert first.index("meshkey-setup") < first.index("meshkey")
    if "istio-init" in first:
        assert first[-1] == "istio-init"
    assert "istio-proxy" in last
    restart = {each["name"]: each.get("restartPolicy") for each in made["spec"]["initContainers"]}
    assert restart["meshkey"] == "Always"
    assert restart["meshkey-setup"] is None


def check_security(made: dict[str, Any]) -> None:
    for name in ("meshkey-setup", "meshkey"):
        context = container(made, name)["securityContext"]
        assert context["runAsUser"] == 1338
        assert context["runAsGroup"] == 1337
        assert context["runAsNonRoot"] is True
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"]["type"] in {"RuntimeDefault", "Localhost"}
        assert container(made, name)["resources"].keys() == {"requests", "limits"}
    assert container(made, "istio-proxy")["securityContext"]["runAsUser"] == 1337


def check_mounts(made: dict[str, Any]) -> None:
    """Who reaches what: the store, the PIN and the admin socket are the sidecar's alone."""
    signer, proxy = mounts(made, "meshkey"), mounts(made, "istio-proxy")
    for path in (str(Path(SIGNER_SOCKET).parent), SDS_DIRECTORY):
        assert signer[path]["name"] == proxy[path]["name"]
        assert signer[path]["subPath"] == proxy[path]["subPath"]
        assert proxy[path]["readOnly"] is True
    assert proxy[MODULE_DIRECTORY]["readOnly"] is True
    shared = {(each["name"], each.get("subPath")) for each in proxy.values()}
    for path in (_STORE, str(Path(ADMIN_SOCKET).parent)):
        assert (signer[path]["name"], signer[path]["subPath"]) not in shared
    whole = {name for name, path in shared if path is None}
    assert not whole & {"meshkey-sockets", "meshkey-store", "meshkey-pin", "workload-socket"}
    for each in made["spec"]["containers"]:
        if each["name"] != "istio-proxy":
            assert not [m for m in each.get("volumeMounts", []) if "meshkey" in m["name"]]


def check_probes(made: dict[str, Any]) -> None:
    sidecar = container(made, "meshkey")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert sidecar[probe]["exec"]["command"][:2] == ["/opt/meshkey/bin/meshkey", "health"]
    assert sidecar["livenessProbe"]["exec"]["command"][2:] == ["--live"]


def check_environment(made: dict[str, Any]) -> None:
    """No secret in an environment; the proxy's additions are there once."""
    proxy = [each["name"] for each in container(made, "istio-proxy")["env"]]
    for name in ("WORKLOAD_IDENTITY_SOCKET_FILE", "ENVOY_DYNAMIC_MODULES_SEARCH_PATH"):
        assert proxy.count(name) == 1
    for each in (*made["spec"]["initContainers"], *made["spec"]["containers"]):
        for variable in each.get("env", []):
            assert "PIN" not in variable["name"]
            assert "secretKeyRef" not in variable.get("valueFrom", {})


def container(made: dict[str, Any], name: str) -> dict[str, Any]:
    spec = made["spec"]
    (found,) = (
        each for each in (*spec["initContainers"], *spec["containers"]) if each["name"] == name
    )
    assert isinstance(found, dict)
    return found


def mounts(made: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    given = container(made, name)["volumeMounts"]
    by_path = {each["mountPath"]: each for each in given}
    assert len(by_path) == len(given)
    return by_path


def test_what_the_pod_says_itself_stays() -> None:
    made = injector().inject(_PODS["own security"])["spec"]
    assert made["securityContext"] == _PODS["own security"]["spec"]["securityContext"]
    assert made["automountServiceAccountToken"] is False
    migrated = injector().inject(_PODS["own init container"])
    order = [each["name"] for each in migrated["spec"]["initContainers"]]
    assert order.index("meshkey") < order.index("migrate")


def test_a_native_proxy_that_would_wait_for_its_own_signer_is_refused() -> None:
    with pytest.raises(istiod.Refused, match="nativeSidecar"):
        injector().with_native_sidecars("true").inject(pod())


def test_the_annotation_of_one_pod_is_enough_against_a_native_proxy() -> None:
    given = pod()
    given["metadata"]["annotations"]["sidecar.istio.io/nativeSidecar"] = "false"
    check_order(injector().with_native_sidecars("true").inject(given))


def test_a_pod_that_does_not_ask_is_left_as_istio_makes_it() -> None:
    made = injector().inject(pod(templates="sidecar"))
    assert "meshkey" not in str(made["spec"])
    assert not SIGNER_LABEL.keys() & made["metadata"]["labels"].keys()
