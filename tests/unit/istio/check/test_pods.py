from __future__ import annotations

import pytest

from sidecar.istio.check.loader import load
from sidecar.istio.check.located import Node, Place
from sidecar.istio.check.objects import Objects
from sidecar.istio.check.pods import Pod, workloads

POD = "metadata: {name: a, namespace: b, labels: {c: d}}\nspec: {serviceAccountName: e}\n"


def only(text: str) -> Pod:
    documents = [each for each in load(text, Place("file", 1)) if isinstance(each, Node)]
    [pod] = workloads(Objects(documents))
    return pod


def indented(text: str, by: int) -> str:
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        f"kind: Pod\n{POD}",
        *(
            f"kind: {kind}\nmetadata: {{namespace: b}}\nspec:\n  template:\n{indented(POD, 4)}"
            for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")
        ),
        "kind: CronJob\nmetadata: {namespace: b}\nspec:\n  jobTemplate:\n    spec:\n"
        f"      template:\n{indented(POD, 8)}",
    ],
)
def test_every_kind_of_workload_has_pods(text: str) -> None:
    pod = only(text)
    assert pod.labels == {"c": "d"}
    assert pod.service_account == "e"
    assert pod.namespace == "b"


def test_a_pod_without_a_service_account_has_the_default_one() -> None:
    assert only("kind: Pod\nspec: {}\n").service_account == "default"


def test_containers_are_found_by_name_wherever_they_are() -> None:
    pod = only("kind: Pod\nspec: {initContainers: [{name: a}], containers: [{name: b}]}\n")
    assert list(pod.containers) == ["a", "b"]


def test_an_annotation_may_ask_for_several_templates() -> None:
    annotations = "{inject.istio.io/templates: 'sidecar, signer,'}"
    pod = only(f"kind: Pod\nmetadata: {{annotations: {annotations}}}\n")
    assert pod.templates == ("sidecar", "signer")
