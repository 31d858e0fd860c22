"""From a plan and Istio's objects to what each pod's proxy is given, by istiod's own code."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tests.e2e.istio.adapter import Rendered
from tests.e2e.istio.objects import kubernetes_objects
from tests.e2e.istio.plan import Plan, Pod
from tests.e2e.istio.pod import ACCESS_LOG

# What tests read in access logs: who the two ends are by what Istio's filters read, and why not.
_ACCESS = {
    "path": "%REQ(:PATH)%",
    "code": "%RESPONSE_CODE%",
    "peer": "%FILTER_STATE(io.istio.peer_principal:PLAIN)%",
    "local": "%FILTER_STATE(io.istio.local_principal:PLAIN)%",
    "flags": "%RESPONSE_FLAGS%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "protocol": "%PROTOCOL%",
}


def mesh_config(trust_domain: str) -> str:
    return yaml.safe_dump(
        {
            "trustDomain": trust_domain,
            "accessLogFile": ACCESS_LOG,
            "accessLogEncoding": "JSON",
            "accessLogFormat": json.dumps(_ACCESS),
            "defaultProviders": {"metrics": ["prometheus"]},
        }
    )


def render(
    plan: Plan, configuration: Sequence[Mapping[str, Any]], trust_domain: str
) -> Mapping[str, Rendered]:
    """By the pods' names; `configuration` are Istio's objects."""
    request = {
        "kubernetes": kubernetes_objects(plan),
        "config": "\n---\n".join(yaml.safe_dump(dict(each)) for each in configuration),
        "mesh": mesh_config(trust_domain),
        "proxies": {pod.name: _proxy(pod) for pod in plan.pods},
    }
    with tempfile.NamedTemporaryFile() as out:
        done = subprocess.run(
            ["/tmp/e2e-istiod/istiod", out.name], input=json.dumps(request), capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        answer = json.load(out)
    return {name: Rendered(**each) for name, each in answer.items()}


def _proxy(pod: Pod) -> Mapping[str, Any]:
    return {
        "id": f"{pod.name}.{pod.namespace}",
        "type": "router" if pod.gateway else "sidecar",
        "ip": pod.address,
        "namespace": pod.namespace,
        "serviceaccount": pod.account,
        "labels": dict(pod.labels),
    }
