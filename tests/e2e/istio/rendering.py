"""From a plan and Istio's objects to what each pod's proxy is given, by istiod's own code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tests.e2e.istio.objects import kubernetes_objects
from tests.e2e.istio.plan import Plan, Pod
from tests.e2e.istio.pod import ACCESS_LOG
from tests.fixtures.istiod import Given, Object, Proxy, given

# What tests read in access logs: who the two ends are by what Istio's filters read, and why not.
_ACCESS = {
    "path": "%REQ(:PATH)%",
    "code": "%RESPONSE_CODE%",
    "peer": "%FILTER_STATE(io.istio.peer_principal:PLAIN)%",
    "local": "%FILTER_STATE(io.istio.local_principal:PLAIN)%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "protocol": "%PROTOCOL%",
}


def render(plan: Plan, istio: Sequence[Object], trust_domain: str) -> Mapping[str, Given]:
    """By the pods' names."""
    mesh = {
        "trustDomain": trust_domain,
        "accessLogFile": ACCESS_LOG,
        "accessLogEncoding": "JSON",
        "accessLogFormat": json.dumps(_ACCESS),
        "defaultProviders": {"metrics": ["prometheus"]},
    }
    proxies = {pod.name: _proxy(pod) for pod in plan.pods}
    return given(proxies, kubernetes_objects(plan), istio, mesh)


def _proxy(pod: Pod) -> Proxy:
    return Proxy(
        id=f"{pod.name}.{pod.namespace}",
        ip=pod.address,
        namespace=pod.namespace,
        service_account=pod.account,
        labels=dict(pod.labels),
        type="router" if pod.gateway else "sidecar",
    )
