"""The sidecar: a native one. The proxy starts when it has a certificate, and ends before it does.

It ends after the proxy because the kubelet stops the containers of a pod first, and then the init
containers that go on (Kubernetes 1.29).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sidecar.istio.document import Object
from sidecar.istio.pods import security
from sidecar.istio.pods.authority import authority_pod
from sidecar.istio.pods.tokens import devices, token_pod
from sidecar.istio.pods.volumes import SIDECAR, Mounted
from sidecar.istio.values import Values

NAME = "meshkey"
_HEALTH = ("/opt/meshkey/bin/meshkey", "health")


def container(values: Values) -> Object:
    """As it stands in a pod's initContainers."""
    return {
        "name": NAME,
        "image": values.images.meshkey,
        "args": ["serve"],
        "restartPolicy": "Always",
        "env": list(_environment(values)),
        # The proxy's start waits for this one: until a CA has answered, and a person has approved.
        "startupProbe": _probe(period=2, failures=300),
        "readinessProbe": _probe(period=10, failures=2),
        # Not whether it can sign: what a CA refuses, no restart mends.
        "livenessProbe": _probe("--live", period=30, failures=3),
        "securityContext": security.confined(values),
        "resources": _resources(values),
        "volumeMounts": [each.mount() for each in mounted(values)],
    }


def mounted(values: Values) -> tuple[Mounted, ...]:
    """All that it sees."""
    return (*SIDECAR, *authority_pod(values).volumes, *token_pod(values).volumes)


def _environment(values: Values) -> Iterator[Object]:
    yield _field("POD_NAMESPACE", "metadata.namespace")
    yield _field("SERVICE_ACCOUNT", "spec.serviceAccountName")
    # $(NAME) is what stands above in this list: the kubelet puts it in.
    identity = f"spiffe://{values.trust_domain}/ns/$(POD_NAMESPACE)/sa/$(SERVICE_ACCOUNT)"
    yield {"name": "MESHKEY_IDENTITY_SPIFFE_ID", "value": identity}
    more = {**authority_pod(values).environment, **token_pod(values).environment}
    yield from ({"name": name, "value": value} for name, value in more.items())


def _field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _probe(*arguments: str, period: int, failures: int) -> Mapping[str, Any]:
    # Each is a Python that starts, hence neither often nor with little time.
    return {
        "exec": {"command": [*_HEALTH, *arguments]},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _resources(values: Values) -> Mapping[str, Any]:
    # Beside the sidecar, its probes run in this container: up to three Pythons at once.
    extended = dict(devices(values))
    return {
        "requests": {"cpu": "100m", "memory": "128Mi", **extended},
        "limits": {"cpu": "1", "memory": "320Mi", **extended},
    }
