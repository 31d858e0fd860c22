"""Every kind of service: headless, of several ports, TCP, HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import grpc
import pytest

from sidecar.demo.processes import wait_for
from tests.e2e.istio.applications import GRPC_METHOD, echo_application, said_back
from tests.e2e.istio.mesh import CLIENT, SharedMesh
from tests.e2e.lab import Lab
from tests.e2e.peers import client_context
from tests.e2e.record import Record

HOST = "server.demo.svc.cluster.local"
INBOUND = "inbound|9000||"
HEADLESS = "headless.demo.svc.cluster.local"


def echoed(mesh: SharedMesh, host: str, octets: bytes) -> bytes:
    """What the echo on a service's TCP port sends back: of octets that all buffers can hold."""
    with mesh.client.connect((mesh.plan.resolve(host), 9000)) as connection:
        connection.sendall(octets)
        received = b""
        while len(received) < len(octets) and (part := connection.recv(65536)):
            received += part
    return received


def test_a_service_of_several_ports_speaks_http_on_one(mesh: SharedMesh) -> None:
    assert mesh.client.curl(f"http://{HOST}:8000/http").status == 200
    seen = mesh.server.access("/http")
    assert (seen["protocol"], seen["peer"]) == ("HTTP/1.1", CLIENT)


def test_and_tcp_on_another(mesh: SharedMesh) -> None:
    before = len(mesh.server.connections(INBOUND))
    octets = bytes(range(256)) * 256
    assert echoed(mesh, HOST, octets) == octets
    wait_for(lambda: len(mesh.server.connections(INBOUND)) > before, "an entry in the access log")
    assert mesh.server.connections(INBOUND)[-1]["peer"] == CLIENT


def test_and_http_2_on_the_third(mesh: SharedMesh) -> None:
    port = mesh.client.way_to((mesh.plan.resolve(HOST), 8080))
    options = [("grpc.default_authority", f"{HOST}:8080")]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        say: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(GRPC_METHOD)
        said, call = say.with_call(b"hello", timeout=30)
        caller = dict(call.trailing_metadata())["caller"]
    assert said == b"hello"
    assert f'URI="{CLIENT}"' in caller
    seen = mesh.server.access(GRPC_METHOD)
    assert (seen["protocol"], seen["peer"]) == ("HTTP/2", CLIENT)


@pytest.mark.parametrize("name", ["server", "soft"])
def test_a_port_that_no_service_has_is_reached_with_mutual_tls_too(
    mesh: SharedMesh, lab: Lab, name: str
) -> None:
    running, port = mesh.scene[name], 7070
    address, inside = (running.pod.address, port), (running.pod.inside, port)
    running.relays.relay(address, running.envoy.place.listener("virtualInbound"), inside)
    record = Record(running.envoy)
    with echo_application(inside):
        # What Istio's proxies offer where they do not know the protocol.
        context = client_context(lab.credentials(CLIENT), "istio")
        assert said_back(address, context) == b"hello"
    record.wait_for_handshakes(server__ok=1)


def test_a_headless_service_is_called_at_its_pods(mesh: SharedMesh) -> None:
    assert mesh.client.curl(f"http://{HEADLESS}:8000/headless").status == 200
    assert mesh.server.access("/headless")["peer"] == CLIENT
    assert echoed(mesh, HEADLESS, b"headless") == b"headless"
