"""A pod that runs: its application, its proxy, its sidecar, and what iptables would do."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.demo.processes import wait_for
from sidecar.istio.names import (
    PEERS_DIRECTORY,
    SDS_DIRECTORY,
    SDS_SOCKET_FILE,
    SIGNER_SOCKET,
    WAKER_SOCKET,
)
from tests.e2e.istio.adapter import Place
from tests.e2e.istio.applications import (
    GrpcApplication,
    echo_application,
    forwarding_application,
    http_application,
)
from tests.e2e.istio.plan import Injected, Plan, Pod
from tests.e2e.istio.proxy import IstioProxy
from tests.e2e.istio.relay import Address, Relays
from tests.e2e.istio.secrets import AgentSecrets
from tests.e2e.istio.sidecar import PodSidecar
from tests.e2e.programs import Curled, curl
from tests.fixtures.istiod import Given

# What is mounted into a proxy, by our templates and Istio's.
MOUNTED = (
    str(Path(SIGNER_SOCKET).parent),
    SDS_DIRECTORY,
    PEERS_DIRECTORY,
    str(Path(WAKER_SOCKET).parent),
)
ACCESS_LOG = str(Path(WAKER_SOCKET).with_name("access.log"))
_CALLED_PORT = 8000
_TIMEOUT_S = 30.0
# By the protocol, a port name's first word.
_APPLICATIONS: Mapping[str, Any] = {
    "http": http_application,
    "tcp": echo_application,
    "grpc": GrpcApplication,
}


@dataclass(frozen=True)
class RunningPod:
    """`proxy` is None where nothing was injected, `sidecar` but where meshkey was."""

    pod: Pod
    plan: Plan
    relays: Relays
    mounts: Mapping[str, Path]
    proxy: IstioProxy | None = None
    sidecar: PodSidecar | None = None
    secrets: AgentSecrets | None = None

    @property
    def envoy(self) -> IstioProxy:
        assert self.proxy, f"{self.pod.name} has no proxy"
        return self.proxy

    def way_to(self, destination: Address) -> int:
        """A port of this machine where the pod's application is, so to speak, when it connects to
        `destination`."""
        proxy = self.envoy.place.listener("virtualOutbound")
        return self.relays.relay(("127.0.0.1", 0), proxy, destination)[1]

    def connect(self, destination: Address) -> socket.socket:
        """A connection of the pod's application to `destination`."""
        return socket.create_connection(("127.0.0.1", self.way_to(destination)), _TIMEOUT_S)

    def curl(self, url: str, *options: str) -> Curled:
        """What the pod's application gets: `url` names a service or an address."""
        host, port = url.split("/")[2].rsplit(":", 1)
        own = self.way_to((self.plan.resolve(host), int(port)))
        return curl(url, "--connect-to", f"::127.0.0.1:{own}", *options)

    def access(self, path: str) -> Mapping[str, Any]:
        """The proxy's one entry in the access log for an HTTP path, once it is there."""
        found: list[Mapping[str, Any]] = []

        def look() -> bool:
            found[:] = [each for each in self._entries() if each["path"] == path]
            return bool(found)

        wait_for(look, f"an entry of {self.pod.name}'s access log for {path}")
        (entry,) = found
        return entry

    def connections(self, cluster: str) -> Sequence[Mapping[str, Any]]:
        """The entries of TCP connections to a cluster that are over, the oldest first."""
        return [
            each for each in self._entries() if (each["cluster"], each["path"]) == (cluster, None)
        ]

    @property
    def served(self) -> int:
        """How many requests its access log says that it has passed to its application."""
        return sum(str(each["cluster"]).startswith("inbound|") for each in self._entries())

    def _entries(self) -> Iterator[Mapping[str, Any]]:
        log = self.mounts[str(Path(ACCESS_LOG).parent)] / Path(ACCESS_LOG).name
        # The last line may be one that is being written.
        for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def make_mounts(directory: Path) -> Mapping[str, Path]:
    """An own directory for each volume of a pod."""
    directory.mkdir(mode=0o700)
    mounts = {mounted: directory / str(index) for index, mounted in enumerate(MOUNTED)}
    for each in mounts.values():
        each.mkdir(mode=0o700)
    return mounts


def start_proxy(
    pod: Pod,
    rendered: Given,
    mounts: Mapping[str, Path],
    secrets: AgentSecrets | None,
    *,
    moving: bool,
) -> IstioProxy:
    """Not ready yet: several start at once."""
    directory = mounts[SDS_DIRECTORY].parent
    agent = secrets.directory if secrets else None
    place = Place(directory / "xds", pod.address, mounts, agent, moving)
    sds_socket = mounts[SDS_DIRECTORY] / SDS_SOCKET_FILE
    return IstioProxy(pod, rendered, place, sds_socket, directory / "envoy")


def start_applications(stack: ExitStack, running: RunningPod) -> None:
    """One for each port of each service that the pod is behind."""
    pod = running.pod
    address = pod.address if pod.injected is Injected.NOTHING else pod.inside
    for name, port in _ports(running):
        if pod.calls:
            way = running.way_to((running.plan.resolve(pod.calls), _CALLED_PORT))
            stack.enter_context(forwarding_application((address, port), pod.calls, way))
        else:
            stack.enter_context(_APPLICATIONS[name.partition("-")[0]]((address, port)))


def redirect(running: RunningPod) -> None:
    """What comes to the pod's address goes to its proxy."""
    pod, inbound = running.pod, running.envoy.place.listener("virtualInbound")
    for _, port in _ports(running):
        running.relays.relay((pod.address, port), inbound, (pod.inside, port))


def _ports(running: RunningPod) -> Sequence[tuple[str, int]]:
    """Of all services that select it."""
    app = running.pod.labels["app"]
    services = [each for each in running.plan.services if each.app == app]
    return sorted({item for service in services for item in service.ports.items()})
