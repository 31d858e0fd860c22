"""A stock Envoy that runs what istiod has rendered."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from sidecar.demo.envoy import Envoy
from sidecar.demo.processes import wait_for
from sidecar.errors import StartFailed
from tests.e2e.istio.adapter import Place, Resource, adapted
from tests.e2e.istio.plan import Pod
from tests.fixtures.istiod import Given

# As in the bootstrap that Istio's agent writes: xDS, and a cluster for SDS.
_BOOTSTRAP = """
node: {id: "${NODE}", cluster: "${CLUSTER}"}
admin: {address: {pipe: {path: "${RUN_DIR}/admin.sock"}}}
dynamic_resources:
  lds_config: {path_config_source: {path: "${FILES}/lds.json"}, resource_api_version: V3}
  cds_config: {path_config_source: {path: "${FILES}/cds.json"}, resource_api_version: V3}
static_resources:
  clusters:
  - name: sds-grpc
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: sds-grpc
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {pipe: {path: "${SDS_SOCKET}"}}}
"""
_TIMEOUT_S = 30.0
# What Envoy counts when it has taken a file in.
_TAKEN = {
    "lds.json": "listener_manager.lds.update_success",
    "cds.json": "cluster_manager.cds.update_success",
}


class IstioProxy(Envoy):
    """The proxy of one pod, with its configuration in files below `place.directory`."""

    def __init__(
        self, pod: Pod, rendered: Given, place: Place, sds_socket: Path, directory: Path
    ) -> None:
        self.place = place
        place.directory.mkdir(mode=0o700)
        for name, text in adapted(rendered, place).items():
            (place.directory / name).write_text(text, encoding="utf-8")
        super().__init__(
            f"{pod.name}-proxy",
            _BOOTSTRAP,
            {
                "NODE": f"sidecar~{pod.address}~{pod.name}.{pod.namespace}~cluster.local",
                "CLUSTER": f"{pod.name}.{pod.namespace}",
                "FILES": place.directory,
                "SDS_SOCKET": sds_socket,
            },
            directory,
        )

    def ready(self) -> None:
        """Waits until it is live, with every part of its configuration.

        Raises:
            StartFailed: with what it has refused, or the end of its log.
        """
        super().ready()
        self._require_all_taken()

    def push(self, rendered: Given) -> None:
        """What has changed takes effect, as when istiod pushes it; returns when it has.

        Raises:
            StartFailed: with what it has refused.
        """
        files = adapted(rendered, self.place)
        changed = {name for name, text in files.items() if not self._is(name, text)}
        before = self._counts(changed)
        # A new cluster's endpoints are there before it is.
        for name in sorted(changed, key=lambda name: name in _TAKEN):
            new = self.place.directory / f"{name}.new"
            new.write_text(files[name], encoding="utf-8")
            # Envoy looks when a file is moved there.
            new.rename(self.place.directory / name)
        wait_for(lambda: self._has_taken(before), f"{self.name} has {sorted(changed)}")
        wait_for(lambda: self._has_all(rendered.endpoints), f"{self.name} has its endpoints")
        self._require_all_taken()

    def give_roots(self, give: Callable[[], None]) -> None:
        """`give` changes what the proxy gets as ROOTCA; returns when it has taken that."""
        name = "sds.ROOTCA.update_success"
        before = self.stats(f"^{name}$")[name]
        give()
        wait_for(lambda: self.stats(f"^{name}$")[name] > before, f"{self.name} has other roots")

    def drain(self) -> None:
        """As Istio's agent does before it ends: no new connections, and the old ones end."""
        subprocess.run(
            ["curl", "--silent", "--fail", "--unix-socket", str(self.directory / "admin.sock"),
             "--request", "POST", "http://admin/drain_listeners?inboundonly&graceful"],
            check=True, capture_output=True, timeout=_TIMEOUT_S,
        )  # fmt: skip
        wait_for(lambda: not self._open_requests(), f"{self.name} has no more requests")

    def _open_requests(self) -> int:
        return sum(self.stats("^http[.]inbound.*downstream_rq_active$").values())

    def _is(self, name: str, text: str) -> bool:
        file = self.place.directory / name
        return file.exists() and file.read_text(encoding="utf-8") == text

    def _counts(self, names: Collection[str]) -> Mapping[str, int]:
        wanted = [_TAKEN[name] for name in names if name in _TAKEN]
        return {name: self.stats(f"^{name}$")[name] for name in wanted}

    def _has_taken(self, before: Mapping[str, int]) -> bool:
        taken = all(self.stats(f"^{name}$")[name] > number for name, number in before.items())
        return taken or bool(self._refused())

    def _require_all_taken(self) -> None:
        if refused := self._refused():
            log = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            reasons = "\n".join(line for line in log if "rejected" in line)
            raise StartFailed(f"{self.name} has refused {refused}\n{reasons}")

    def _refused(self) -> Mapping[str, int]:
        kinds = "^(listener_manager.lds|cluster_manager.cds|.*[.]rds[.].*|cluster.*)[.]"
        counts = self.stats(f"{kinds}update_rejected$")
        return {name: number for name, number in counts.items() if number}

    def _has_all(self, assignments: Iterable[Resource]) -> bool:
        statuses = json.loads(self.admin("/clusters?format=json"))["cluster_statuses"]
        known = {each["name"]: _hosts(each) for each in statuses}
        return all(known.get(each["cluster_name"]) == _wanted(each) for each in assignments)


def _hosts(status: Resource) -> set[tuple[str, int]]:
    hosts = [each["address"] for each in status.get("host_statuses", [])]
    addresses = [each["socket_address"] for each in hosts if "socket_address" in each]
    return {(each["address"], each["port_value"]) for each in addresses}


def _wanted(assignment: Resource) -> set[tuple[str, int]]:
    addresses = [
        each["endpoint"]["address"]["socket_address"]
        for locality in assignment.get("endpoints", [])
        for each in locality.get("lb_endpoints", [])
    ]
    return {(each["address"], each["port_value"]) for each in addresses}
