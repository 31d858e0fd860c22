"""What the rules ask of a set of files, worked out once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from sidecar.istio.check.finding import Finding
from sidecar.istio.check.loader import load
from sidecar.istio.check.located import Node
from sidecar.istio.check.objects import Object, Objects
from sidecar.istio.check.patches import Patch, patches
from sidecar.istio.check.pods import SIGNER, Pod, workloads
from sidecar.istio.check.templates import Template, templates, within
from sidecar.istio.names import CONFIG_MAP, SIGNER_LABEL
from sidecar.istio.pods.template import GATEWAY, WORKLOAD

_ROOT_NAMESPACE = "istio-system"
# Istio's own, for gateways' pods.
_GATEWAY_TEMPLATE = "gateway"


class Mesh:
    """A set of files may be a part of a mesh: what is not in it is not known to be missing."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    @cached_property
    def charts(self) -> tuple[Node, ...]:
        """Values of Istio's Helm charts, also those in an IstioOperator."""
        operators = self.objects.of("IstioOperator")
        return (*self.objects.charts, *(each.spec.at("values") for each in operators))

    @property
    def istiods(self) -> tuple[Node, ...]:
        """Those of them that are for istiod."""
        keys = ("sidecarInjectorWebhook", "pilot")
        return tuple(each for each in self.charts if any(each.at(key).present for key in keys))

    @cached_property
    def mesh_configs(self) -> tuple[Node, ...]:
        """From what is installed, and from what istiod reads."""
        found = [each.at("meshConfig") for each in self.charts]
        found += [each.spec.at("meshConfig") for each in self.objects.of("IstioOperator")]
        for each in self.objects.of("ConfigMap"):
            if each.name == "istio" or each.name.startswith("istio-"):
                text = each.node.at("data", "mesh")
                found += [read for read in load(text.text, within(text)) if isinstance(read, Node)]
        return tuple(each for each in found if each.present)

    @cached_property
    def root_namespace(self) -> str:
        """Whose policies are everybody's."""
        found = [each.at("rootNamespace").text for each in self.mesh_configs]
        found += [each.at("global", "istioNamespace").text for each in self.charts]
        return next((each for each in found if each), _ROOT_NAMESPACE)

    @cached_property
    def trust_domain(self) -> str:
        """The mesh's, else the one that inbound patches accept; empty if the set tells neither."""
        found = [each.at("trustDomain").text for each in self.mesh_configs]
        for patch in self.patches:
            found += [each.settings.at("peers", "trust_domain").text for each in patch.sockets]
        return next((each for each in found if each), "")

    @cached_property
    def patches(self) -> tuple[Patch, ...]:
        return tuple(patches(self.objects))

    @cached_property
    def _templates(self) -> tuple[Template | Finding, ...]:
        parents = [each.at("sidecarInjectorWebhook", "templates") for each in self.charts]
        for each in self.objects.of("ConfigMap"):
            if each.name.startswith("istio-sidecar-injector"):
                text = each.node.at("data", "config")
                read = load(text.text, within(text))
                parents += [found.at("templates") for found in read if isinstance(found, Node)]
        return tuple(each for parent in parents for each in templates(parent))

    @property
    def unreadable_templates(self) -> Iterator[Finding]:
        yield from (each for each in self._templates if isinstance(each, Finding))

    @cached_property
    def signer_templates(self) -> tuple[Template, ...]:
        """The injection templates that have our container."""
        read = (each for each in self._templates if isinstance(each, Template))
        return tuple(each for each in read if SIGNER in _pod(each).containers)

    @cached_property
    def workloads(self) -> tuple[Pod, ...]:
        return tuple(workloads(self.objects))

    @cached_property
    def signer_pods(self) -> tuple[Pod, ...]:
        """Where our container is written out: in templates, and in pods after the injection."""
        injected = (each for each in self.workloads if SIGNER in each.containers)
        return (*map(_pod, self.signer_templates), *injected)

    @cached_property
    def default_templates(self) -> tuple[str, ...]:
        """Of pods without an annotation."""
        found = [each.at("sidecarInjectorWebhook", "defaultTemplates") for each in self.charts]
        return tuple(name.text for each in found for name in each.items)

    def injected_templates(self, pod: Pod) -> frozenset[str]:
        """Ours, that a pod asks for."""
        ours = {WORKLOAD, GATEWAY, *(each.name for each in self.signer_templates)}
        return frozenset(pod.templates or self.default_templates) & ours

    def has_signer(self, pod: Pod) -> bool:
        """By injection, or already written out."""
        return SIGNER in pod.containers or bool(self.injected_templates(pod))

    def is_gateway(self, pod: Pod) -> bool:
        """By the templates it asks for."""
        return _GATEWAY_TEMPLATE in pod.templates

    @cached_property
    def signer_namespaces(self) -> frozenset[str]:
        """Where our filters, our configuration or our pods are."""
        filters = {each.filter.namespace for each in self.patches if each.sockets}
        maps = {each.namespace for each in self.objects.of("ConfigMap") if each.name == CONFIG_MAP}
        pods = {each.namespace for each in self.workloads if self.has_signer(each)}
        return frozenset(filters | maps | pods)

    def may_select_signers(self, policy: Object, selector: Mapping[str, str]) -> bool:
        """Whether a policy is for pods of ours; not if all it selects in the set are others."""
        of_all = policy.namespace == self.root_namespace
        if not self.signer_namespaces or not (of_all or policy.namespace in self.signer_namespaces):
            return False
        selected = [
            each
            for each in self.workloads
            if (of_all or each.namespace == policy.namespace)
            and selector.items() <= labels_of(each).items()
        ]
        # There may be more pods than the set has.
        return not selector or not selected or any(map(self.has_signer, selected))


def labels_of(pod: Pod) -> Mapping[str, str]:
    """With what the injection adds."""
    return {**pod.labels, **SIGNER_LABEL}


def _pod(template: Template) -> Pod:
    metadata = template.pod.at("metadata")
    return Pod(
        f"template {template.name}",
        (metadata if metadata.present else template.pod).place,
        template.pod,
    )
