"""The mesh that most tests share: a namespace of each kind, and something of everything in it.

- demo, STRICT, with meshkey: `client`, `server`, and the gateway `edge`.
- soft, PERMISSIVE, with meshkey: `soft`.
- old, with Istio's own proxies and their keys in memory: `old`.
- demo, without a proxy: `bare`.

Who answers where:

| service | ports | is |
|---|---|---|
| server | http, tcp, grpc | `server` |
| headless | http, tcp | `server` |
| soft | http, tcp | `soft` |
| old, mutual | http | `old`; a DestinationRule asks for ISTIO_MUTUAL on the second |
| imposed | http | `old`, though only old/expected may answer |
| moving | http | `old`, whom the operator lists while it runs |
| unlisted | http | `old`, of which the operator said nothing |
| bare | http | `bare` |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from sidecar.demo.mesh import TRUST_DOMAIN
from tests.e2e.istio.applications import http_application
from tests.e2e.istio.ours import values
from tests.e2e.istio.plan import Injected, Plan
from tests.e2e.istio.pod import RunningPod
from tests.e2e.istio.scene import Configuration, Scene
from tests.e2e.lab import Lab
from tests.e2e.programs import SServer

CLIENT = f"spiffe://{TRUST_DOMAIN}/ns/demo/sa/client"
SERVER = f"spiffe://{TRUST_DOMAIN}/ns/demo/sa/server"
EDGE = f"spiffe://{TRUST_DOMAIN}/ns/demo/sa/edge"
OLD = f"spiffe://{TRUST_DOMAIN}/ns/old/sa/old"
OUTSIDE_PORT = 8123
EDGE_PLAINTEXT, EDGE_MUTUAL = 8090, 15443
EDGE_LABELS = {"istio": "edge"}


@dataclass(frozen=True)
class SharedMesh:
    """The pods, running; at `plan.outside` there is an application that is no part of the mesh.

    `external` is a TLS server that asks for a client certificate, called external.example; it
    answers with what it knows about the connection.
    """

    plan: Plan
    scene: Scene
    client: RunningPod
    server: RunningPod
    soft: RunningPod
    old: RunningPod
    edge: RunningPod
    external: SServer


@contextmanager
def shared_mesh(lab: Lab) -> Iterator[SharedMesh]:
    with ExitStack() as stack:
        plan = stack.enter_context(Plan())
        external = stack.enter_context(_external(lab))
        stack.enter_context(http_application((plan.outside, OUTSIDE_PORT)))
        document = _planned(plan)
        istio = [*_gateway(), *_egress(external.port), _istio_mutual()]
        scene = stack.enter_context(Scene(lab, plan, Configuration(document, istio)))
        scene.start(*plan.pods)
        pods = {name: scene[name] for name in ("client", "server", "soft", "old", "edge")}
        yield SharedMesh(plan, scene, **pods, external=external)


def _planned(plan: Plan) -> Mapping[str, Any]:
    """Fills the plan; returns the values for it."""
    plan.pod("client", "demo")
    server = plan.pod("server", "demo")
    soft = plan.pod("soft", "soft")
    old = plan.pod("old", "old", Injected.ISTIO)
    bare = plan.pod("bare", "demo", Injected.NOTHING)
    plan.pod("edge", "demo", labels=EDGE_LABELS, gateway=True)
    ports = {"http-web": 8000, "tcp-echo": 9000}
    web = {"http-web": 8000}
    plan.service("server", "demo", {**ports, "grpc-say": 8080}, server)
    plan.service("headless", "demo", ports, server, headless=True)
    plan.service("soft", "soft", ports, soft)
    plan.service("old", "old", web, old)
    plan.service("mutual", "old", web, old)
    imposed = plan.service("imposed", "old", web, old)
    moving = plan.service("moving", "old", web, old)
    unlisted = plan.service("unlisted", "old", web, old)
    plan.service("bare", "demo", web, bare)
    return values(
        plan,
        {"demo": "strict", "soft": "permissive"},
        unlisted=[unlisted],
        accounts={each.host: ["old/expected"] for each in (imposed, moving)},
        gateways=[
            {
                "name": "edge",
                "namespace": "demo",
                "labels": EDGE_LABELS,
                "mutual": [{"port": EDGE_MUTUAL}],
            }
        ],
    )


def _external(lab: Lab) -> SServer:
    """On the internet: it asks for a certificate, goes on without, and tells what it saw."""
    own = lab.forge.certify(dns=["external.example"])
    log = lab.short_path("external")
    return SServer(log, own, "-verify", "1", "-verify_quiet", "-CAfile", str(lab.roots), "-www")


def _istio_mutual() -> Mapping[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "mutual", "namespace": "old"},
        "spec": {
            "host": "mutual.old.svc.cluster.local",
            "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}},
        },
    }


def _egress(port: int) -> Sequence[Mapping[str, Any]]:
    """TLS to the internet that the proxy begins, without a client certificate."""
    name = {"name": "external", "namespace": "demo"}
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": name,
            "spec": {
                "hosts": ["external.example"],
                "location": "MESH_EXTERNAL",
                "resolution": "STATIC",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "endpoints": [{"address": "127.0.0.1", "ports": {"http": port}}],
            },
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": name,
            "spec": {
                "host": "external.example",
                "trafficPolicy": {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True}},
            },
        },
    ]


def _gateway() -> Sequence[Mapping[str, Any]]:
    name = {"name": "edge", "namespace": "demo"}
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": name,
            "spec": {
                "selector": EDGE_LABELS,
                "servers": [
                    {
                        "port": {"number": EDGE_PLAINTEXT, "name": "http", "protocol": "HTTP"},
                        "hosts": ["*"],
                    },
                    {
                        "port": {"number": EDGE_MUTUAL, "name": "mutual", "protocol": "HTTPS"},
                        "hosts": ["*"],
                        "tls": {"mode": "ISTIO_MUTUAL"},
                    },
                ],
            },
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": name,
            "spec": {
                "hosts": ["*"],
                "gateways": ["edge"],
                "http": [
                    {
                        "route": [
                            {
                                "destination": {
                                    "host": "server.demo.svc.cluster.local",
                                    "port": {"number": 8000},
                                }
                            }
                        ]
                    }
                ],
            },
        },
    ]
