"""The meshkey sidecar of a pod."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sidecar.demo.sidecars import Served
from sidecar.istio.names import SDS_DIRECTORY, SDS_SOCKET_FILE, SIGNER_SOCKET
from tests.e2e.lab import Lab
from tests.fixtures.rules import this_user


class PodSidecar(Served):
    """`meshkey serve` with the sockets that our templates mount, in the pod's `mounts`; the rest
    is beside them.

    Its CA is the lab's; `roots` is the file of whom the mesh trusts.
    """

    def __init__(
        self, lab: Lab, name: str, spiffe_id: str, mounts: Mapping[str, Path], roots: Path
    ) -> None:
        self.sds_socket = mounts[SDS_DIRECTORY] / SDS_SOCKET_FILE
        signer = Path(SIGNER_SOCKET)
        store = lab.mesh.store
        super().__init__(
            name,
            {
                "token": {"label": "mesh", "pin_file": lab.mesh.mesh_pin},
                "identity": {"spiffe_id": spiffe_id, "trust_bundle": roots},
                "ca": {"socket": lab.mesh.ca.socket},
                "signer": {
                    "socket": mounts[str(signer.parent)] / signer.name,
                    "allow_own_user": True,
                },
                # Stock proxies cannot use a certificate without its key, and say so.
                "sds": {"socket": self.sds_socket, "refused_certificates": "expected"},
                "caller": this_user(),
            },
            mounts[SDS_DIRECTORY].parent,
            store.environment,
        )
