from __future__ import annotations

import pytest

from tests.fixtures.marked import found, marked
from tests.unit.istio.check.rules.texts import outbound, workload

OFF = '        sidecar.istio.io/nativeSidecar: "false"\n'
NAMESPACE = "kind: Namespace\nmetadata: {name: demo, labels: {istio-injection: enabled}}\n"


def plain(labels: str = "{}", annotations: str = "{} # << no-template-annotation") -> str:
    """A Deployment that asks for nothing."""
    return f"""\
kind: Deployment
metadata: {{name: plain, namespace: demo}}
spec:
  template:
    metadata:
      labels: {labels}
      annotations: {annotations}
    spec: {{serviceAccountName: server}}
"""


def test_a_workload_that_asks_for_the_sidecar_is_right() -> None:
    assert found(workload(metadata=OFF), outbound(), NAMESPACE) == set()


@pytest.mark.parametrize("namespace", ["{istio-injection: enabled}", "{istio.io/rev: canary}"])
def test_a_pod_that_is_injected_by_its_namespace_without_the_sidecar_is_found(
    namespace: str,
) -> None:
    bad = plain()
    there = f"kind: Namespace\nmetadata: {{name: demo, labels: {namespace}}}\n"
    assert found(bad, outbound(), there) == marked(bad)


@pytest.mark.parametrize("label", ['sidecar.istio.io/inject: "true"', "istio.io/rev: canary"])
def test_a_pod_that_is_injected_by_its_own_label_is_found(label: str) -> None:
    bad = plain(f"{{{label}}}")
    assert found(bad, outbound()) == marked(bad)
    others = plain(
        f"{{{label}}}", "{inject.istio.io/templates: sidecar} # << no-template-annotation"
    )
    assert found(others, outbound()) == marked(others)


def test_a_pod_that_is_not_injected_is_nobodys_business() -> None:
    assert found(plain(), outbound()) == set()
    assert found(plain('{sidecar.istio.io/inject: "false"}'), outbound(), NAMESPACE) == set()


def test_a_pod_of_a_namespace_without_our_filters_is_nobodys_business() -> None:
    assert found(plain('{sidecar.istio.io/inject: "true"}')) == set()


def test_the_default_templates_may_have_the_sidecar() -> None:
    defaults = """\
sidecarInjectorWebhook: {defaultTemplates: [sidecar, signer]}
env: {ENABLE_NATIVE_SIDECARS: "false"}
"""
    assert found(plain(), outbound(), NAMESPACE, defaults) == set()


def test_annotations_of_the_workload_itself_are_found() -> None:
    bad = """\
kind: StatefulSet
metadata:
  name: server
  annotations:
    inject.istio.io/templates: sidecar,signer # << misplaced-annotation
    sidecar.istio.io/nativeSidecar: "false" # << misplaced-annotation
"""
    assert found(bad) == marked(bad)
    assert found(bad.replace("StatefulSet", "Pod")) == set()


def test_our_label_without_the_sidecar_is_found() -> None:
    bad = plain("\n        meshkey.io/signer: enabled # << label-without-signer", "{}")
    assert found(bad) == marked(bad)


def injected(init: str, containers: str = "", labels: str = "{meshkey.io/signer: enabled}") -> str:
    """A pod as the injector makes it."""
    return f"""\
kind: Pod
metadata:
  name: server
  namespace: demo
  labels: {labels}
spec:
  initContainers: {init}
  containers: {containers}
"""


SAFE = """
  - name: meshkey
    restartPolicy: Always
    startupProbe: {exec: {command: [health]}}
    securityContext:
      runAsUser: 1338
      runAsGroup: 1337
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}"""
PROXY = """
  - name: istio-proxy{mark}
    image: registry.example/proxyv2-meshkey:1.32.0
    env: [{{name: WORKLOAD_IDENTITY_SOCKET_FILE, value: meshkey.sock}}]"""


def test_a_pod_with_the_proxy_after_the_sidecar_is_right() -> None:
    assert found(injected(SAFE, PROXY.format(mark=""))) == set()
    assert found(injected(SAFE + PROXY.format(mark=""))) == set()


def test_a_native_proxy_before_the_sidecar_is_found() -> None:
    bad = injected(PROXY.format(mark=" # << native-proxy") + SAFE)
    assert found(bad) == marked(bad)


def test_a_sidecar_without_the_label_is_found() -> None:
    bad = injected(SAFE, PROXY.format(mark=""), "{app: server} # << signer-without-label")
    assert found(bad) == marked(bad)


def test_a_template_without_the_label_is_found() -> None:
    template = injected(SAFE, PROXY.format(mark=""), "{} # << signer-without-label")
    lines = "".join(f"      {line}\n" for line in template.splitlines())
    bad = f"""\
sidecarInjectorWebhook:
  templates:
    own: |
{lines}pilot: {{env: {{ENABLE_NATIVE_SIDECARS: "false"}}}}
"""
    assert found(bad) == marked(bad)


ISTIOD = "pilot: {env: {}}\n"


@pytest.mark.parametrize(
    "istiod", [ISTIOD, ISTIOD.replace("{}", "{ENABLE_NATIVE_SIDECARS: auto}"), ""]
)
def test_a_pod_that_asks_for_a_native_proxy_is_found(istiod: str) -> None:
    bad = workload(metadata='        sidecar.istio.io/nativeSidecar: "true" # << native-proxy\n')
    assert found(bad, istiod) == marked(bad)


def test_a_pod_that_leaves_it_to_an_istiod_with_native_proxies_is_found() -> None:
    bad = workload().replace("annotations:", "annotations: # << native-proxy")
    assert found(bad, ISTIOD) == marked(bad)
    assert found(workload(metadata=OFF), ISTIOD) == set()
    assert found(workload()) == set()


@pytest.mark.parametrize(
    "istiod",
    [
        'pilot: {env: {ENABLE_NATIVE_SIDECARS: "false"}}\n',
        'sidecarInjectorWebhook: {}\nenv: {ENABLE_NATIVE_SIDECARS: "false"}\n',
        """\
kind: IstioOperator
spec:
  values: {pilot: {}}
  components: {pilot: {k8s: {env: [{name: ENABLE_NATIVE_SIDECARS, value: "false"}]}}}
""",
    ],
)
def test_an_istiod_without_native_proxies_is_right(istiod: str) -> None:
    assert found(workload(), istiod) == set()


def test_a_gateways_proxy_is_never_native() -> None:
    gateway = workload().replace("sidecar,signer", "gateway,signer-gateway")
    assert found(gateway, ISTIOD) == set()


@pytest.mark.parametrize(
    ("annotation", "wrong", "right"),
    [("interceptionMode", "TPROXY", "REDIRECT"), ("capNetBindService", '"true"', '"false"')],
)
def test_a_root_proxy_is_found(annotation: str, wrong: str, right: str) -> None:
    line = f"        sidecar.istio.io/{annotation}: "
    bad = workload(metadata=f"{line}{wrong} # << root-proxy\n")
    assert found(bad) == marked(bad)
    assert found(workload(metadata=f"{line}{right}\n")) == set()


def test_a_mesh_of_root_proxies_is_found() -> None:
    template = injected(SAFE, PROXY.format(mark=""))
    lines = "".join(f"      {line}\n" for line in template.splitlines())
    bad = f"""\
global:
  proxy:
    capNetBindService: true # << root-proxy
sidecarInjectorWebhook:
  templates:
    own: |
{lines}meshConfig:
  defaultConfig:
    interceptionMode: TPROXY # << root-proxy
"""
    assert found(bad) == marked(bad)
    assert found(bad.replace("TPROXY", "REDIRECT").replace("Service: true", "Service: no")) == set()
