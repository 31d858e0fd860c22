"""A stock Envoy that runs what istiod has rendered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from sidecar.demo.envoy import Envoy
from sidecar.demo.processes import wait_for
from sidecar.errors import StartFailed
from tests.e2e.istio.adapter import Place, Rendered, Resource, adapted, endpoint_files
from tests.e2e.istio.plan import Pod

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


class IstioProxy(Envoy):
    """The proxy of one pod, with its configuration in files below `place.directory`."""

    def __init__(
        self, pod: Pod, rendered: Rendered, place: Place, sds_socket: Path, directory: Path
    ) -> None:
        self.place = place
        place.directory.mkdir(mode=0o700)
        for name, text in adapted(rendered, place).files.items():
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
        if refused := self.refused():
            log = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            reasons = "\n".join(line for line in log if "rejected" in line)
            raise StartFailed(f"{self.name} has refused {refused}\n{reasons}")

    def refused(self) -> Mapping[str, int]:
        """How often each kind of discovery was refused."""
        names = "^(listener_manager.lds|cluster_manager.cds|.*[.]rds[.].*|cluster.*)[.]"
        counts = self.stats(f"{names}update_rejected$")
        return {name: number for name, number in counts.items() if number}

    def move(self, endpoints: Sequence[Resource]) -> None:
        """Replaces where some clusters have their endpoints; returns when it goes by that."""
        for name, text in endpoint_files(endpoints).items():
            file = self.place.directory / name
            new = file.with_suffix(".new")
            new.write_text(text, encoding="utf-8")
            # Envoy looks when a file is moved there.
            new.rename(file)
        wait_for(lambda: all(map(self._has, endpoints)), f"{self.name} has its new endpoints")

    def _has(self, assignment: Resource) -> bool:
        wanted = {
            f"{address['address']}:{address['port_value']}"
            for locality in assignment.get("endpoints", [])
            for each in locality["lb_endpoints"]
            for address in [each["endpoint"]["address"]["socket_address"]]
        }
        clusters = json.loads(self.admin("/clusters?format=json"))["cluster_statuses"]
        (status,) = (each for each in clusters if each["name"] == assignment["cluster_name"])
        hosts = [each["address"]["socket_address"] for each in status.get("host_statuses", [])]
        return {f"{each['address']}:{each['port_value']}" for each in hosts} == wanted
