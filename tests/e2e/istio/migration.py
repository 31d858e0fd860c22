"""A mesh on its way from Istio's own keys to meshkey and back, a step at a time.

Users come in at a gateway, `edge`, which calls `front` (namespace shop), whose application calls
`depot` (namespace stock). Certificates for Istio's agents are signed under one root, those for
meshkey's sidecars under another.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates

from tests.e2e.istio.ours import Object, values
from tests.e2e.istio.plan import Injected, Plan, Pod
from tests.e2e.istio.relay import Address
from tests.e2e.istio.scene import Configuration, Scene
from tests.e2e.lab import Lab

EDGE_PORT = 8090
_NAMESPACES = {"front": "shop", "depot": "stock"}
_DEPOT = "depot.stock.svc.cluster.local"
_WEB = {"http-web": 8000}


class Migration:
    """The mesh before its first step: STRICT, with Istio's own keys and root."""

    def __init__(self, lab: Lab) -> None:
        self.istios_root = lab.forge.root_pem
        (ours,) = (each for each in _roots(lab.roots) if each != self.istios_root)
        self.both_roots = self.istios_root + ours
        self.plan = Plan()
        self._modes: dict[str, str] = {}
        self._mode = "STRICT"
        self._versions = {"front": 1, "depot": 1}
        self.edge = self.plan.pod(
            "edge", "edge", Injected.ISTIO, labels={"istio": "edge"}, gateway=True
        )
        first = [self._pod(name, Injected.ISTIO) for name in _NAMESPACES]
        for pod, (name, namespace) in zip(first, _NAMESPACES.items(), strict=True):
            self.plan.service(name, namespace, _WEB, pod)
        roots = lab.short_path("migrating")
        roots.write_bytes(self.istios_root)
        self.scene = Scene(lab, self.plan, self._configuration(), roots, moving=True)

    def __enter__(self) -> Migration:
        with ExitStack() as stack:
            stack.enter_context(self.plan)
            stack.enter_context(self.scene).start(*self.plan.pods)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def door(self) -> Address:
        """Where users come in."""
        return self.edge.address, EDGE_PORT

    def current(self, name: str) -> Sequence[Pod]:
        """The pods behind a service."""
        (service,) = (each for each in self.plan.services if each.name == name)
        return service.pods

    def accept(self, mode: str) -> None:
        """PERMISSIVE or STRICT: Istio's own objects, PeerAuthentications, in all namespaces."""
        self._mode = mode
        self.scene.push(self._configuration())

    def generate_for(self, mode: str, *namespaces: str) -> None:
        """What `meshkey istio generate` writes with these in the values; all is applied but its
        PeerAuthentications."""
        self._modes = dict.fromkeys(namespaces, mode)
        self.scene.push(self._configuration())

    def add(self, name: str, injected: Injected) -> Pod:
        """A pod of the next version beside those that serve; the service gets it when it is
        ready."""
        pod = self._pod(name, injected)
        # Before it starts: what it is given depends on what it is behind.
        self.scene.push(self._configuration())
        self.scene.start(pod)
        self.plan.move(name, *self.current(name), pod)
        self.scene.push(self._configuration())
        return pod

    def leave_alone(self, name: str, pod: Pod) -> None:
        """The others leave the service, then they end."""
        others = [each for each in self.current(name) if each != pod]
        self.plan.move(name, pod)
        self.scene.push(self._configuration())
        for each in others:
            self.scene.end(each)

    def _pod(self, name: str, injected: Injected) -> Pod:
        number = self._versions[name]
        self._versions[name] += 1
        return self.plan.pod(
            f"{name}-{number}",
            _NAMESPACES[name],
            injected,
            account=name,
            labels={"app": name},
            calls=_DEPOT if name == "front" else "",
        )

    def _configuration(self) -> Configuration:
        document = values(self.plan, self._modes) if self._modes else None
        modes = [_peer_authentication(each, self._mode) for each in _NAMESPACES.values()]
        return Configuration(document, _gateway(), modes)


def _roots(file: Path) -> Sequence[bytes]:
    certificates = load_pem_x509_certificates(file.read_bytes())
    return [each.public_bytes(Encoding.PEM) for each in certificates]


def _peer_authentication(namespace: str, mode: str) -> Object:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": {"mtls": {"mode": mode}},
    }


def _gateway() -> Sequence[Object]:
    name = {"name": "edge", "namespace": "edge"}
    port = {"number": EDGE_PORT, "name": "http", "protocol": "HTTP"}
    front = {"host": "front.shop.svc.cluster.local", "port": {"number": 8000}}
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": name,
            "spec": {
                "selector": {"istio": "edge"},
                "servers": [{"port": port, "hosts": ["*"]}],
            },
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": name,
            "spec": {
                "hosts": ["*"],
                "gateways": ["edge"],
                "http": [{"route": [{"destination": front}]}],
            },
        },
    ]
