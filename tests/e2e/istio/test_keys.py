"""No key is in the memory of the proxies that istiod configures."""

from __future__ import annotations

from sidecar.demo.proof import learn_values, prove
from tests.e2e.istio.mesh import SharedMesh
from tests.e2e.istio.pod import RunningPod
from tests.e2e.istio.sidecar import PodSidecar
from tests.e2e.lab import Lab
from tests.e2e.record import Record
from tests.e2e.watching import rotate

HOST = "server.demo.svc.cluster.local"


def test_keys_that_signed_are_in_no_proxys_memory(mesh: SharedMesh, lab: Lab) -> None:
    pods = [mesh.client, mesh.server]
    records = [Record(pod.envoy) for pod in pods]
    destination = (mesh.plan.resolve(HOST), 9000)
    values: dict[str, bytes] = {}
    for pod in pods:
        # The keys of now are used for what follows; a TCP connection is a handshake.
        values |= learn_values(lab.mesh.store, sidecar(pod))
    for generation in ("first", "next"):
        if generation == "next":
            for pod in pods:
                rotate(sidecar(pod))
                values |= learn_values(lab.mesh.store, sidecar(pod))
        with mesh.client.connect(destination) as connection:
            connection.sendall(b"signed for")
            assert connection.recv(1024) == b"signed for"
    for record in records:
        assert record.signatures() == {"asked": 2, "made": 2}
    # Istio's own proxy has its key: the same search finds it there.
    assert mesh.old.secrets
    proof = prove(
        [pod.envoy for pod in pods], values, mesh.old.envoy, mesh.old.secrets.private_value
    )
    assert (proof.keys, proof.processes) == (4, 2)


def sidecar(pod: RunningPod) -> PodSidecar:
    assert pod.sidecar
    return pod.sidecar
