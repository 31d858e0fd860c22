"""kustomization.yaml files, so that `kubectl apply -k` takes what is to be applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from sidecar.istio.document import Document, dumped
from sidecar.istio.pods.template import WORKLOAD_TEMPLATES

# What the root applies, and what is applied by itself; the rest is not for kubectl.
_TREES = ("cluster", "namespaces")
_ALONE = ("network",)

_ROOT = """\
kubectl apply -k . applies what the control plane and the pods need, except for the NetworkPolicies
(network/) and what is installed (install/). Istio's own CRDs must be there, and the namespaces.
"""
_INJECT = """\
A component for your own kustomizations: it asks for the sidecar in the pods of every workload
there, and in nobody else's. So you choose who has it, namespace by namespace:

    components: [PATH/TO/inject]
"""
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


def kustomized(documents: Sequence[Document]) -> tuple[Document, ...]:
    """One for each directory with something to apply, and the component."""
    paths = [PurePosixPath(each.path) for each in documents]
    below = [path for path in paths if path.parts[0] in _TREES]
    alone = [path for path in paths if path.parts[0] in _ALONE]
    return (
        _kustomization(".", _ROOT, _directories(below)),
        *_each_directory(below),
        *_each_directory(alone),
        _component(),
    )


def _each_directory(paths: Sequence[PurePosixPath]) -> Iterator[Document]:
    for directory in _directories(paths):
        files = [path.name for path in paths if str(path.parent) == directory]
        yield _kustomization(directory, "Everything here.", files)


def _directories(paths: Sequence[PurePosixPath]) -> list[str]:
    return sorted({str(path.parent) for path in paths})


def _kustomization(directory: str, about: str, resources: Sequence[str]) -> Document:
    path = str(PurePosixPath(directory, "kustomization.yaml"))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(resources),
    }
    return Document(path, about, (kustomization,))


def _component() -> Document:
    component = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": [{"target": {"kind": kind}, "patch": _annotated(kind)} for kind in _WORKLOADS],
    }
    return Document("inject/kustomization.yaml", _INJECT, (component,))


def _annotated(kind: str) -> str:
    annotations = {"inject.istio.io/templates": WORKLOAD_TEMPLATES}
    return dumped(
        {
            "apiVersion": "apps/v1",
            "kind": kind,
            # Of no consequence: the target says whom it is for.
            "metadata": {"name": "any"},
            "spec": {"template": {"metadata": {"annotations": annotations}}},
        }
    )
