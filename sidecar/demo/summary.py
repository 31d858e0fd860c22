"""What the demo's mesh did, read from the running parts."""

from __future__ import annotations

from datetime import timedelta

from sidecar.demo.envoy import Envoy
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import LocalCa, Sidecar


def summarise(ca: LocalCa, sidecars: list[Sidecar], server: Envoy) -> dict[str, str]:
    """Rows for people, in the order in which they are read."""
    statuses = {sidecar.name: sidecar.status() for sidecar in sidecars}
    ca_token = ca.status().token
    wait_for(lambda: bool(server.access_log()), "the server's access log")
    rows = {"TLS": server.access_log()[-1]["tls"]}
    rows |= {
        f"{name}'s identity": status.identities[0].spiffe_id for name, status in statuses.items()
    }
    mesh_signatures = sum(status.token.signatures for status in statuses.values())
    handshakes = sum(status.signed for status in statuses.values())
    rows["token mesh"] = f"{mesh_signatures} signatures, {handshakes} of them for TLS handshakes"
    rows["token ca"] = f"{ca_token.signatures} signatures: its root and the certificates"
    identity = statuses["server"].identities[0]
    lifetime = timedelta(seconds=identity.not_after - identity.not_before)
    rows["certificate's lifetime"] = f"{lifetime} with 2 minutes of backdating"
    rows["assurance"] = statuses["server"].token.assurance
    return rows
