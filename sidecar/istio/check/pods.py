"""Pods, as workloads and injection templates describe them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from sidecar.istio.check.located import Node, Place
from sidecar.istio.check.objects import Object, Objects

SIGNER = "meshkey"
SETUP = "meshkey-setup"
PROXY = "istio-proxy"
TEMPLATES = "inject.istio.io/templates"
NATIVE = "sidecar.istio.io/nativeSidecar"

# Where each kind has its pods' metadata and spec.
_PATHS: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"), ("spec", "template")
    ),
}


@dataclass(frozen=True, eq=False)
class Pod:
    """`owner` is for people. `whole` is the object that makes them, nothing for a template."""

    owner: str
    place: Place
    node: Node
    whole: Object | None = None

    @property
    def namespace(self) -> str:
        return self.whole.namespace if self.whole else ""

    @property
    def labels(self) -> Mapping[str, str]:
        return self.node.at("metadata", "labels").texts

    def annotation(self, name: str) -> Node:
        return self.node.at("metadata", "annotations", name)

    @property
    def templates(self) -> tuple[str, ...]:
        """That its annotation asks for."""
        return tuple(each.strip() for each in self.annotation(TEMPLATES).text.split(",") if each)

    @property
    def service_account(self) -> str:
        return self.node.at("spec", "serviceAccountName").text or "default"

    @cached_property
    def init_containers(self) -> tuple[Node, ...]:
        return self.node.at("spec", "initContainers").items

    @cached_property
    def containers(self) -> Mapping[str, Node]:
        """All of them, by name."""
        every = (*self.init_containers, *self.node.at("spec", "containers").items)
        return {each.at("name").text: each for each in every}


def workloads(objects: Objects) -> Iterator[Pod]:
    """The pods that the objects of a set make."""
    for each in objects.of(*_PATHS):
        yield Pod(str(each), each.place, each.node.at(*_PATHS[each.kind]), each)
