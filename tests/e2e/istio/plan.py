"""A small cluster: which pods and services there are, and at which addresses.

Everything is on the loopback network 127.0.0.0/8, of which each plan takes a /16 of its own, so
that test runs do not meet on one machine. In it a pod has two addresses. At `Pod.address` the mesh
knows it, and there the relay listens that stands for iptables. Its application listens at the same
ports of `Pod.inside`: in a pod both are one address, on one machine they cannot be.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count
from types import TracebackType

from sidecar.istio.names import SIGNER_LABEL

# Nothing else here listens there.
_CLAIM_PORT = 4711


class Injected(Enum):
    """What was injected into a pod, as the labels that istiod and our filters go by.

    Istio's injector sets `tlsMode` on every pod with a proxy; auto-mTLS reads it.
    """

    NOTHING = "nothing"
    ISTIO = "istio"
    MESHKEY = "meshkey"

    @property
    def labels(self) -> Mapping[str, str]:
        if self is Injected.NOTHING:
            return {}
        ours = SIGNER_LABEL if self is Injected.MESHKEY else {}
        return {"security.istio.io/tlsMode": "istio", **ours}


@dataclass(frozen=True)
class Pod:
    """One pod, with its addresses and its service account.

    `calls` is the host that its HTTP application forwards requests to, at port 8000; empty if it
    answers itself.
    """

    name: str
    namespace: str
    account: str
    address: str
    inside: str
    injected: Injected
    labels: Mapping[str, str]
    gateway: bool
    calls: str

    def spiffe_id(self, trust_domain: str) -> str:
        return f"spiffe://{trust_domain}/ns/{self.namespace}/sa/{self.account}"


@dataclass(frozen=True)
class Service:
    """`ports` are numbers by names; a name's first word is the protocol, as Istio wants it.

    `address` is None for a headless service: it is called at its pods' addresses.
    """

    name: str
    namespace: str
    ports: Mapping[str, int]
    pods: tuple[Pod, ...]
    address: str | None

    @property
    def app(self) -> str:
        """The label of all that may be behind it."""
        return self.pods[0].labels["app"]

    @property
    def host(self) -> str:
        return f"{self.name}.{self.namespace}.svc.cluster.local"


@dataclass
class Plan:
    """Pods and services, numbered as they come. Its network is taken until its context is left."""

    pods: list[Pod] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._claim, self._network = _claimed()
        self._numbers = count(1)

    def __enter__(self) -> Plan:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._claim.close()

    def pod(
        self,
        name: str,
        namespace: str,
        injected: Injected = Injected.MESHKEY,
        *,
        account: str = "",
        labels: Mapping[str, str] | None = None,
        gateway: bool = False,
        calls: str = "",
    ) -> Pod:
        """A new one; its service account has its name unless another is given."""
        number = next(self._numbers)
        pod = Pod(
            name=name,
            namespace=namespace,
            account=account or name,
            address=f"127.{self._network}.1.{number}",
            inside=f"127.{self._network}.2.{number}",
            injected=injected,
            labels={"app": name, **(labels or {}), **injected.labels},
            gateway=gateway,
            calls=calls,
        )
        self.pods.append(pod)
        return pod

    def service(
        self,
        name: str,
        namespace: str,
        ports: Mapping[str, int],
        *pods: Pod,
        headless: bool = False,
    ) -> Service:
        """A new one before these pods."""
        address = None if headless else f"127.{self._network}.3.{len(self.services) + 1}"
        service = Service(name, namespace, ports, pods, address)
        self.services.append(service)
        return service

    def move(self, service: str, *pods: Pod) -> None:
        """From now on these are behind it."""
        self.services = [
            replace(each, pods=pods) if each.name == service else each for each in self.services
        ]

    @property
    def outside(self) -> str:
        """An address that no pod and no service has."""
        return f"127.{self._network}.4.1"

    def resolve(self, host: str) -> str:
        """What a pod's DNS says: a service's address, of a headless one its first pod's.

        An address is its own.
        """
        for service in self.services:
            if service.host == host:
                return service.address or service.pods[0].address
        return host


def _claimed() -> tuple[socket.socket, int]:
    """A number from 64 to 254 that no other plan has, and the socket that says so."""
    for network in random.sample(range(64, 255), 190):
        claim = socket.socket()
        try:
            claim.bind((f"127.{network}.0.1", _CLAIM_PORT))
            claim.listen()
        except OSError:
            claim.close()
        else:
            return claim, network
    raise RuntimeError("all networks below 127.0.0.0/8 are taken by other tests")
