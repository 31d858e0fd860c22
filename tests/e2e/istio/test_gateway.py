"""A gateway with meshkey: who comes in with a mesh identity, and what it calls."""

from __future__ import annotations

import json

from tests.e2e.istio.mesh import CLIENT, EDGE, EDGE_MUTUAL, EDGE_PLAINTEXT, SharedMesh
from tests.e2e.lab import Lab
from tests.e2e.programs import curl
from tests.e2e.record import Record


def test_a_gateway_calls_services_with_its_identity(mesh: SharedMesh) -> None:
    answer = curl(f"http://{mesh.edge.pod.address}:{EDGE_PLAINTEXT}/through")
    assert answer.status == 200, answer
    assert f'URI="{EDGE}"' in json.loads(answer.body)["x-forwarded-client-cert"]
    assert mesh.server.access("/through")["peer"] == EDGE


def test_its_mutual_server_takes_mesh_identities(mesh: SharedMesh, lab: Lab) -> None:
    record = Record(mesh.edge.envoy)
    url = f"https://{mesh.edge.pod.address}:{EDGE_MUTUAL}/mutual-edge"
    answer = curl(url, credentials=lab.credentials(CLIENT))
    assert answer.status == 200, answer
    assert record.handshakes()["server.ok"] == 1
    assert mesh.edge.access("/mutual-edge")["peer"] == CLIENT
    assert mesh.server.access("/mutual-edge")["peer"] == EDGE


def test_and_nobody_else(mesh: SharedMesh, lab: Lab) -> None:
    url = f"https://{mesh.edge.pod.address}:{EDGE_MUTUAL}/nobody"
    assert curl(url).status == 0
    assert curl(url, credentials=lab.strangers.certify(CLIENT)).status == 0
