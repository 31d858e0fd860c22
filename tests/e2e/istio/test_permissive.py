"""A namespace in PERMISSIVE mode: mutual TLS where a proxy offers it, and the rest as it comes."""

from __future__ import annotations

import json
import socket

from tests.e2e.flood import client_hello
from tests.e2e.istio.mesh import CLIENT, OLD, SharedMesh
from tests.e2e.programs import curl
from tests.e2e.record import Record

URL = "http://soft.soft.svc.cluster.local:8000"
_TIMEOUT_S = 30.0


def test_a_client_with_meshkey_uses_mutual_tls(mesh: SharedMesh) -> None:
    answer = mesh.client.curl(f"{URL}/soft")
    assert answer.status == 200, answer
    assert f'URI="{CLIENT}"' in json.loads(answer.body)["x-forwarded-client-cert"]
    assert mesh.soft.access("/soft")["peer"] == CLIENT


def test_an_istio_client_with_its_own_key_uses_mutual_tls(mesh: SharedMesh) -> None:
    answer = mesh.old.curl(f"{URL}/soft-old")
    assert answer.status == 200, answer
    assert f'URI="{OLD}"' in json.loads(answer.body)["x-forwarded-client-cert"]
    assert mesh.soft.access("/soft-old")["peer"] == OLD


def test_plaintext_is_served_and_has_no_identity(mesh: SharedMesh) -> None:
    lie = "x-forwarded-client-cert: URI=spiffe://demo.mesh/ns/demo/sa/root"
    answer = curl(f"http://{mesh.soft.pod.address}:8000/plaintext", "--header", lie)
    assert answer.status == 200, answer
    assert "x-forwarded-client-cert" not in json.loads(answer.body)
    assert mesh.soft.access("/plaintext")["peer"] is None


def test_tls_of_the_applications_own_reaches_it_octet_by_octet(mesh: SharedMesh) -> None:
    record = Record(mesh.soft.envoy)
    hello = client_hello()
    with socket.create_connection((mesh.soft.pod.address, 9000), _TIMEOUT_S) as connection:
        connection.sendall(hello)
        echoed = connection.recv(65536)
        while len(echoed) < len(hello) and (octets := connection.recv(65536)):
            echoed += octets
    assert echoed == hello
    assert record.signatures() == record.handshakes() == {}


def test_mutual_tls_on_the_same_port_ends_at_the_proxy(mesh: SharedMesh) -> None:
    record = Record(mesh.soft.envoy)
    destination = (mesh.plan.resolve("soft.soft.svc.cluster.local"), 9000)
    with mesh.client.connect(destination) as connection:
        connection.sendall(b"raw octets")
        assert connection.recv(65536) == b"raw octets"
    record.wait_for_handshakes(server__ok=1)
