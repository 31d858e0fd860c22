"""No key is in the memory of the proxies that istiod configures."""

from __future__ import annotations

from sidecar.demo.processes import wait_for
from sidecar.demo.proof import learn_values, prove
from tests.e2e.istio.mesh import SharedMesh
from tests.e2e.istio.pod import RunningPod
from tests.e2e.istio.sidecar import PodSidecar
from tests.e2e.lab import Lab
from tests.e2e.record import Record, gauge

HOST = "server.demo.svc.cluster.local"


def test_keys_that_signed_are_in_no_proxys_memory(mesh: SharedMesh, lab: Lab) -> None:
    pods = [mesh.client, mesh.server]
    records = [Record(pod.envoy) for pod in pods]
    values: dict[str, bytes] = {}
    for generation in (1, 2):
        for pod in pods:
            if generation == 2:
                rotate(pod)
            values |= learn_values(lab.mesh.store, sidecar(pod))
        shake_hands(mesh)
    for record in records:
        assert record.signatures() == {"asked": 2, "made": 2}
    # Istio's own proxy has its key: the same search finds it there.
    assert mesh.old.secrets
    proof = prove(
        [pod.envoy for pod in pods], values, mesh.old.envoy, mesh.old.secrets.private_value
    )
    assert (proof.keys, proof.processes) == (4, 2)


def shake_hands(mesh: SharedMesh) -> None:
    """A TCP connection is a handshake, with the keys of now."""
    with mesh.client.connect((mesh.plan.resolve(HOST), 9000)) as connection:
        connection.sendall(b"signed for")
        assert connection.recv(1024) == b"signed for"


def rotate(pod: RunningPod) -> None:
    """A new key; returns when the proxy uses it."""
    generation = sidecar(pod).rotate()
    wait_for(
        lambda: gauge(pod.envoy, "identity.generation") == generation, f"generation {generation}"
    )


def sidecar(pod: RunningPod) -> PodSidecar:
    assert pod.sidecar
    return pod.sidecar
