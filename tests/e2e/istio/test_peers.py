"""Who may answer for a service is in a file that the proxies watch: no push, no reload."""

from __future__ import annotations

from sidecar.demo.processes import wait_for
from tests.e2e.istio.mesh import OLD, SharedMesh

HOST = "moving.old.svc.cluster.local"
_RELOADS = "^(cluster_manager.cds|listener_manager.lds).update_(success|attempt)$"


def test_a_new_service_account_is_accepted_without_a_reload(mesh: SharedMesh) -> None:
    url, reloads = f"http://{HOST}:8000/moving", mesh.client.envoy.stats(_RELOADS)
    assert mesh.client.curl(url).status == 503
    mesh.scene.list_peers("demo", HOST, OLD)
    wait_for(lambda: mesh.client.curl(url).status == 200, "the new service account is accepted")
    assert mesh.client.envoy.stats(_RELOADS) == reloads
