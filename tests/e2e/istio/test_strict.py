"""A namespace in STRICT mode: only mutual TLS, whoever the caller has his key from."""

from __future__ import annotations

import json

from tests.e2e.istio.mesh import CLIENT, OLD, SERVER, SharedMesh
from tests.e2e.programs import curl
from tests.e2e.record import Record

IMPOSED = "imposed.old.svc.cluster.local"
URL = "http://server.demo.svc.cluster.local:8000"


def test_a_request_arrives_with_the_clients_identity(mesh: SharedMesh) -> None:
    answer = mesh.client.curl(f"{URL}/hello")
    assert answer.status == 200, answer
    assert f'URI="{CLIENT}"' in json.loads(answer.body)["x-forwarded-client-cert"]
    seen = mesh.server.access("/hello")
    assert (seen["peer"], seen["local"]) == (CLIENT, SERVER)


def test_an_istio_proxy_with_its_own_key_is_served_as_before(mesh: SharedMesh) -> None:
    answer = mesh.old.curl(f"{URL}/from-old")
    assert answer.status == 200, answer
    assert f'URI="{OLD}"' in json.loads(answer.body)["x-forwarded-client-cert"]
    assert mesh.server.access("/from-old")["peer"] == OLD


def test_what_a_caller_says_about_itself_does_not_reach_the_application(mesh: SharedMesh) -> None:
    lie = "x-forwarded-client-cert: URI=spiffe://demo.mesh/ns/demo/sa/root"
    answer = mesh.client.curl(f"{URL}/lie", "--header", lie)
    assert "sa/root" not in json.loads(answer.body)["x-forwarded-client-cert"]


def test_plaintext_is_refused_on_every_port(mesh: SharedMesh) -> None:
    for port in (8000, 9000, 8080):
        answer = curl(f"http://{mesh.server.pod.address}:{port}/plaintext")
        assert answer.status == 0
        # An empty reply, or a reset.
        assert answer.code in {52, 56}, answer


def test_a_caller_without_a_certificate_is_refused(mesh: SharedMesh) -> None:
    record = Record(mesh.server.envoy)
    answer = curl(f"https://{mesh.server.pod.address}:8000/nobody")
    assert answer.status == 0
    record.wait_for_handshakes(server__failed__no_peer_certificate=1)


def test_a_server_that_the_operator_did_not_list_is_not_spoken_to(mesh: SharedMesh) -> None:
    record = Record(mesh.client.envoy)
    answer = mesh.client.curl(f"http://{IMPOSED}:8000/imposed")
    assert answer.status == 503
    assert set(record.handshakes()) == {"client.failed.peer_unexpected"}
    reason = f'client handshake failed: peer {OLD} is not in entry "{IMPOSED}" of peers file '
    assert all(line.startswith(reason) for line in record.logged()), record.logged()
