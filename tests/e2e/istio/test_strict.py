"""A namespace in STRICT mode, with generated filters that istiod has applied."""

from __future__ import annotations

import json

from tests.e2e.istio.mesh import CLIENT, SERVER, SharedMesh


def test_a_request_arrives_with_the_clients_identity(mesh: SharedMesh) -> None:
    answer = mesh.client.curl("http://server.demo.svc.cluster.local:8000/hello")
    assert answer.status == 200, answer
    reached = json.loads(answer.body)
    assert f"URI={CLIENT}" in reached["x-forwarded-client-cert"]
    seen = mesh.server.access("/hello")
    assert (seen["peer"], seen["local"]) == (CLIENT, SERVER)
