"""A plan as the Kubernetes objects that istiod reads: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.e2e.istio.plan import Plan, Pod, Service

Object = dict[str, Any]


def kubernetes_objects(plan: Plan) -> Sequence[Object]:
    """Namespaces, pods, services and their endpoints."""
    namespaces = {each.namespace for each in plan.pods}
    return [
        *map(_namespace, sorted(namespaces)),
        *map(_pod, plan.pods),
        *map(_service, plan.services),
        *map(_endpoints, plan.services),
    ]


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _pod(pod: Pod) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": pod.namespace, "labels": dict(pod.labels)},
        "spec": {"serviceAccountName": pod.account, "nodeName": "node", "containers": []},
        "status": {
            "phase": "Running",
            "podIP": pod.address,
            "podIPs": [{"ip": pod.address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def _service(service: Service) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service.name, "namespace": service.namespace},
        "spec": {
            "clusterIP": service.address or "None",
            # A pod is given what it is to serve by this, before it is ready and an endpoint.
            "selector": {"app": service.app},
            "ports": [
                {"name": name, "port": port, "targetPort": port, "protocol": "TCP"}
                for name, port in service.ports.items()
            ],
        },
    }


def _endpoints(service: Service) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service.name}-1",
            "namespace": service.namespace,
            "labels": {"kubernetes.io/service-name": service.name},
        },
        "addressType": "IPv4",
        "ports": [
            {"name": name, "port": port, "protocol": "TCP"} for name, port in service.ports.items()
        ],
        "endpoints": [
            {
                "addresses": [pod.address],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": pod.name, "namespace": pod.namespace},
            }
            for pod in service.pods
        ],
    }
