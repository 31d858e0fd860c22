"""A namespace of Kubernetes and Istio, with every kind of service and connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.istio.mesh.gateway import gateway
from sidecar.istio.mesh.inbound import inbound
from sidecar.istio.mesh.outbound import outbound
from sidecar.istio.mesh.peer_authentication import peer_authentication
from sidecar.istio.values import Values
from tests.fixtures.istiod import Proxy
from tests.fixtures.meshes import mesh
from tests.integration.istio.dumps import Json

SERVER = "server.demo.svc.cluster.local"
HEADLESS = "headless.demo.svc.cluster.local"
EXTERNAL = "api.example.com"
# The services' ports; the pod's are 100 higher.
HTTP, TCP, AUTO = 8000, 9000, 9500


def proxy(labels: Mapping[str, str], **more: str) -> Proxy:
    """Of a pod in the namespace."""
    return Proxy("pod.demo", more.pop("ip", "10.0.0.1"), "demo", "server", labels, **more)


SIGNER = {"meshkey.io/signer": "enabled"}
WORKLOAD = proxy({"app": "server", **SIGNER})

SERVICES = [
    {
        "host": host,
        "ports": [{"number": HTTP, "protocol": "http"}, {"number": TCP, "protocol": "tcp"}],
        "service_accounts": ["demo/server"],
    }
    for host in (SERVER, HEADLESS)
]


def values(mode: str = "strict", **more: Any) -> Values:
    """That name both services, by their HTTP and TCP ports alone."""
    namespaces = [{"name": "demo", "mtls": mode}]
    return mesh(namespaces=namespaces, services=SERVICES, trust_domain="cluster.local", **more)


def generated_objects(values: Values) -> Sequence[Json]:
    """All that is generated for the traffic of the mesh."""
    builders = (peer_authentication, inbound, outbound, gateway)
    return [each for build in builders for document in build(values) for each in document.objects]


def without_filters(objects: Sequence[Json]) -> Sequence[Json]:
    """The same mesh as Istio alone serves it."""
    return [each for each in objects if each["kind"] != "EnvoyFilter"]


def objects() -> list[Json]:
    """Two services of one pod, another service, and an external one with TLS of its own."""
    ports = [("http", HTTP), ("tcp", TCP), ("auto", AUTO)]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}},
        _service("server", "server", "10.96.0.1", ports),
        _service("headless", "server", "None", ports),
        _service("foreign", "foreign", "10.96.0.9", ports),
        _pod(),
        _istio(
            "ServiceEntry",
            "external",
            hosts=[EXTERNAL],
            location="MESH_EXTERNAL",
            resolution="DNS",
            ports=[{"number": 443, "name": "http", "protocol": "HTTP"}],
        ),
        destination_rule(EXTERNAL, "SIMPLE"),
    ]


def destination_rule(host: str, mode: str) -> Json:
    """How a host is called, and a subset of it."""
    subsets = [{"name": "v1", "labels": {"version": "v1"}}]
    policy = {"tls": {"mode": mode}}
    name = host.partition(".")[0]
    return _istio("DestinationRule", name, host=host, trafficPolicy=policy, subsets=subsets)


def _istio(kind: str, name: str, **spec: Any) -> Json:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "demo"},
        "spec": spec,
    }


def _service(name: str, app: str, address: str, ports: Sequence[tuple[str, int]]) -> Json:
    spec = {
        "clusterIP": address,
        "selector": {"app": app},
        "ports": [
            {"name": port, "port": number, "targetPort": number + 100} for port, number in ports
        ],
    }
    metadata = {"name": name, "namespace": "demo"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _pod() -> Mapping[str, Any]:
    labels = {**WORKLOAD.labels, "security.istio.io/tlsMode": "istio"}
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", "namespace": "demo", "labels": labels},
        "spec": {"containers": [{"name": "a", "image": "a"}], "serviceAccountName": "server"},
        "status": {"podIP": WORKLOAD.ip, "phase": "Running", "conditions": ready},
    }
