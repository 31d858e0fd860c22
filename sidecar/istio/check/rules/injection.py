"""Whether pods get the sidecar, and before their proxy."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.istio.check.finding import Finding, error, warning
from sidecar.istio.check.located import Node
from sidecar.istio.check.mesh import Mesh
from sidecar.istio.check.pods import NATIVE, PROXY, SIGNER, TEMPLATES, Pod
from sidecar.istio.names import SIGNER_LABEL
from sidecar.istio.pods.template import WORKLOAD_TEMPLATES

ANNOTATION = warning(
    "no-template-annotation",
    "A pod is injected in a namespace with meshkey's filters, but without the sidecar.",
)
MISPLACED = error(
    "misplaced-annotation", "An injection annotation is on a workload, not on its pods' template."
)
LABELLED = error("label-without-signer", "A pod has the sidecar's label and no sidecar.")
UNLABELLED = error(
    "signer-without-label", "The sidecar comes without the label that filters select."
)
NATIVE_PROXY = error("native-proxy", "A native istio-proxy starts before the sidecar it waits for.")
ROOT_PROXY = error(
    "root-proxy", "The proxy is root: interception mode TPROXY, or capNetBindService."
)

_INJECT = "sidecar.istio.io/inject"
_LOW_PORTS = "sidecar.istio.io/capNetBindService"
_MODE = "sidecar.istio.io/interceptionMode"
_LABEL = next(iter(SIGNER_LABEL))
_ENABLED = "ENABLE_NATIVE_SIDECARS"


def requests(mesh: Mesh) -> Iterator[Finding]:
    """What asks for the sidecar."""
    for pod in mesh.workloads:
        yield from _misplaced(pod)
        if mesh.has_signer(pod):
            continue
        if pod.labels.get(_LABEL) == SIGNER_LABEL[_LABEL]:
            yield LABELLED.at(
                pod.node.at("metadata", "labels", _LABEL).place,
                "filters put our socket on a proxy that has no signer: all its traffic fails",
                f"annotate its pods with {TEMPLATES}: {WORKLOAD_TEMPLATES}, or remove the label",
            )
        elif pod.namespace in mesh.signer_namespaces and _injected(mesh, pod):
            yield ANNOTATION.at(
                pod.annotation(TEMPLATES).place,
                f"{pod.owner} gets Istio's proxy without the sidecar: its key stays in the proxy",
                f"annotate its pods with {TEMPLATES}: {WORKLOAD_TEMPLATES}",
            )


def _misplaced(pod: Pod) -> Iterator[Finding]:
    if pod.whole is None or pod.whole.kind == "Pod":
        return
    there = pod.whole.node.at("metadata", "annotations")
    for name in (TEMPLATES, NATIVE, _MODE, _LOW_PORTS):
        if there.at(name).present:
            yield MISPLACED.at(
                there.at(name).place,
                f"{name} has no effect here: the injector reads the pods' own annotations",
                "move it to the metadata of the pods' template",
            )


def _injected(mesh: Mesh, pod: Pod) -> bool:
    """The pod's own label decides before the namespace's."""
    own = pod.labels.get(_INJECT) or pod.annotation(_INJECT).text
    namespaces = [each for each in mesh.objects.of("Namespace") if each.name == pod.namespace]
    labels = [pod.labels, *(each.node.at("metadata", "labels").texts for each in namespaces)]
    asked = any(
        each.get("istio-injection") == "enabled" or each.get("istio.io/rev") for each in labels
    )
    return own == "true" or (asked and own != "false")


def labels(mesh: Mesh) -> Iterator[Finding]:
    """Of templates, and of pods after the injection."""
    for pod in mesh.signer_pods:
        if pod.labels.get(_LABEL) != SIGNER_LABEL[_LABEL]:
            yield UNLABELLED.at(
                pod.node.at("metadata", "labels").place,
                f"no filter selects the pods of {pod.owner}: they would use Istio's own keys, "
                "which nothing brings them",
                f"add the label {_LABEL}: {SIGNER_LABEL[_LABEL]}",
            )


def native(mesh: Mesh) -> Iterator[Finding]:
    """The injector decides by the pod's annotation, then by istiod's setting."""
    for pod in mesh.workloads:
        if PROXY in pod.containers and SIGNER in pod.containers:
            yield from _order(pod)
        elif mesh.has_signer(pod) and not mesh.is_gateway(pod):
            yield from _asked(mesh, pod)


def _order(pod: Pod) -> Iterator[Finding]:
    names = [each.at("name").text for each in pod.init_containers]
    if PROXY in names and (SIGNER not in names or names.index(PROXY) < names.index(SIGNER)):
        yield NATIVE_PROXY.at(
            pod.containers[PROXY].place,
            f"{PROXY} waits for certificates that {SIGNER}, after it, would bring: "
            "the pod never starts",
            f'inject it again with {NATIVE}: "false"',
        )


def _asked(mesh: Mesh, pod: Pod) -> Iterator[Finding]:
    annotation = pod.annotation(NATIVE)
    said = annotation.text if annotation.text in {"true", "false"} else ""
    settings = [setting for setting in _settings(mesh) if setting.present]
    told = mesh.istiods and not any(each.text == "false" for each in settings)
    if said == "true" or (not said and told):
        yield NATIVE_PROXY.at(
            annotation.place,
            f"{pod.owner} is refused, or its proxy waits for a sidecar that starts after it",
            f'annotate its pods with {NATIVE}: "false", or install istiod with {_ENABLED}=false',
        )


def _settings(mesh: Mesh) -> Iterator[Node]:
    for each in mesh.charts:
        yield each.at("pilot", "env", _ENABLED)
        yield each.at("env", _ENABLED)
    for operator in mesh.objects.of("IstioOperator"):
        for each in operator.spec.at("components", "pilot", "k8s", "env").items:
            if each.at("name").text == _ENABLED:
                yield each.at("value")


def root_proxies(mesh: Mesh) -> Iterator[Finding]:
    """Of pods with the sidecar, and of the whole mesh."""
    modes, ports = [], []
    for pod in filter(mesh.has_signer, mesh.workloads):
        modes.append(pod.annotation(_MODE))
        ports.append(pod.annotation(_LOW_PORTS))
    if mesh.signer_templates:
        modes += [each.at("defaultConfig", "interceptionMode") for each in mesh.mesh_configs]
        ports += [each.at("global", "proxy", "capNetBindService") for each in mesh.charts]
    for asked in (
        *(each for each in modes if each.text == "TPROXY"),
        *(each for each in ports if each.text == "true"),
    ):
        yield ROOT_PROXY.at(
            asked.place,
            "the proxy is root: nothing is signed for it, and the sidecar has no secrets from it",
            "use REDIRECT, and ports above 1023",
        )
