"""Everything that is generated, against the schemas of Kubernetes and the validation of istiod."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest

from sidecar.istio.document import Document, Object
from sidecar.istio.generate import generated
from sidecar.istio.values import Values
from tests.fixtures.istio_injection import gateway, inject, workload
from tests.fixtures.istio_pods import EVERYTHING
from tests.fixtures.istio_values import values
from tests.fixtures.istiod import validated

_KUBERNETES = "1.37"
# Of no API: they are for istioctl, Helm and kustomize, which have tests of their own.
_NOT_APPLIED = ("install/", "inject/")


def applied(of: Values) -> Iterator[Object]:
    """Each object of the files that kubectl is given."""
    for document in generated(of):
        if not isinstance(document, Document) or document.path.startswith(_NOT_APPLIED):
            continue
        if not document.path.endswith("kustomization.yaml"):
            yield from document.objects


def check(each: Any) -> None:
    """Strictly: what the schema does not know is refused."""
    kubernetes_validate.validate(each, _KUBERNETES, strict=True)


@EVERYTHING
def test_kubernetes_knows_every_field_of_its_objects(of: Values) -> None:
    ours = [each for each in applied(of) if ".istio.io/" not in each["apiVersion"]]
    assert {"ConfigMap", "NetworkPolicy"} <= {each["kind"] for each in ours}
    for each in ours:
        check(each)


@EVERYTHING
def test_kubernetes_knows_every_field_of_a_pod_after_injection(of: Values) -> None:
    check(inject(workload(), of))
    check(inject(gateway(), of))


def test_kubernetes_knows_the_profiles_of_a_node() -> None:
    check(inject(workload(), values(node_profiles=True)))


def test_istiod_takes_its_objects_and_warns_of_nothing_but_what_they_are() -> None:
    theirs = [each for each in applied(values()) if ".istio.io/" in each["apiVersion"]]
    verdicts = validated(theirs)
    assert len(verdicts) == len(theirs) >= 4
    assert [each.error for each in verdicts if each.error] == []
    warned = {each.kind for each in verdicts if each.warning}
    assert warned == {"EnvoyFilter"}
    # It says so of every EnvoyFilter: that it is one.
    assert len({each.warning for each in verdicts if each.warning}) == 1


def test_a_field_that_is_misspelt_is_found() -> None:
    pod = inject(workload(), values())
    pod["spec"]["initContainers"][1]["restartpolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartpolicy"):
        check(pod)
