"""The mode of a namespace, said to Istio."""

from __future__ import annotations

from sidecar.istio.mesh.peer_authentication import peer_authentication
from tests.fixtures.meshes import mesh


def test_a_namespace_accepts_what_its_values_say() -> None:
    namespaces = [{"name": "one", "mtls": "strict"}, {"name": "two", "mtls": "permissive"}]
    documents = peer_authentication(mesh(namespaces=namespaces))
    objects = [each.objects[0] for each in documents]
    modes = {each["metadata"]["namespace"]: each["spec"]["mtls"]["mode"] for each in objects}
    assert modes == {"one": "STRICT", "two": "PERMISSIVE"}
    assert {each["metadata"]["name"] for each in objects} == {"default"}
