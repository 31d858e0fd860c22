"""What `meshkey istio generate` writes for a plan: Istio's objects and the peers' lists."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.demo.mesh import TRUST_DOMAIN
from sidecar.istio.generate import generated
from sidecar.istio.names import PEERS_CONFIG_MAP
from sidecar.istio.values_document import parse
from tests.e2e.istio.plan import Plan, Service

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Ours:
    """`istio` is what istiod reads; `peers` are the files of each namespace's ConfigMap."""

    istio: Sequence[Object]
    peers: Mapping[str, Mapping[str, str]]

    @classmethod
    def generated(cls, values: Mapping[str, Any]) -> Ours:
        """From the values' document."""
        objects = [each for file in generated(parse(dict(values))) for each in file.objects]
        return cls(
            istio=[each for each in objects if ".istio.io/" in each["apiVersion"]],
            peers={
                each["metadata"]["namespace"]: each["data"]
                for each in objects
                if each["kind"] == "ConfigMap" and each["metadata"]["name"] == PEERS_CONFIG_MAP
            },
        )

    def mount_peers(self, namespace: str, directory: Path) -> None:
        """As the kubelet mounts them: whole files that replace the old ones."""
        for name, text in self.peers[namespace].items():
            new = directory / f"{name}.new"
            new.write_text(text, encoding="utf-8")
            new.rename(directory / name)


def values(
    plan: Plan,
    namespaces: Mapping[str, str],
    *,
    unlisted: Collection[Service] = (),
    accounts: Mapping[str, Sequence[str]] | None = None,
    **more: Any,
) -> Mapping[str, Any]:
    """The document of values for a plan.

    Args:
        namespaces: those that get meshkey, and their mode.
        unlisted: services that the operator did not name.
        accounts: who may answer for a host, where that is not who does.
        more: further parts of the document.
    """
    return {
        "trust_domain": TRUST_DOMAIN,
        "images": {"meshkey": "meshkey:test", "proxy": "proxyv2-meshkey:test"},
        "namespaces": [{"name": name, "mtls": mode} for name, mode in namespaces.items()],
        "services": [
            {
                "host": each.host,
                "ports": [_port(*item) for item in each.ports.items()],
                "service_accounts": [*(accounts or {}).get(each.host, _accounts(each))],
            }
            for each in plan.services
            if each not in unlisted
        ],
        **more,
    }


def _port(name: str, number: int) -> Object:
    protocol = "tcp" if name.partition("-")[0] == "tcp" else "http"
    return {"number": number, "protocol": protocol}


def _accounts(service: Service) -> Sequence[str]:
    return sorted({f"{pod.namespace}/{pod.account}" for pod in service.pods})
