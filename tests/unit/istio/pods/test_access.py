"""Rights at the Kubernetes API: what is asked for there, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.istio.pods.access import access
from tests.fixtures.istio_values import values

_SIGNER = {"kind": "kubernetes", "signer": "clusterissuers.cert-manager.io/mesh"}


def objects(ca: dict[str, str]) -> tuple[Any, ...]:
    (document,) = access(values(ca=ca))
    return document.objects


@pytest.mark.parametrize("kind", ["istiod", "istio-csr"])
def test_istios_cas_need_no_rights(kind: str) -> None:
    assert access(values(ca={"kind": kind})) == ()


def test_a_requester_can_neither_approve_nor_sign_nor_list() -> None:
    role, _ = objects(_SIGNER)
    (rule,) = role["rules"]
    assert rule["apiGroups"] == ["certificates.k8s.io"]
    assert rule["resources"] == ["certificatesigningrequests"]
    assert set(rule["verbs"]) == {"create", "get", "watch", "delete"}


def test_of_the_trust_bundles_it_reads_the_one_that_it_uses() -> None:
    role, _ = objects({**_SIGNER, "trust_bundle": "a.b:c:roots"})
    _, rule = role["rules"]
    assert rule["resources"] == ["clustertrustbundles"]
    assert rule["resourceNames"] == ["a.b:c:roots"]
    assert rule["verbs"] == ["get"]


def test_the_namespaces_with_signers_have_the_role_and_nobody_else() -> None:
    role, binding = objects(_SIGNER)
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [(subject["kind"], subject["name"]) for subject in binding["subjects"]] == [
        ("Group", "system:serviceaccounts:demo"),
        ("Group", "system:serviceaccounts:istio-ingress"),
    ]
