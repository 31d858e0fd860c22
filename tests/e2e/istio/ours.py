"""What `meshkey istio generate` writes for a plan: Istio's objects and the peers' lists."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from sidecar.demo.mesh import TRUST_DOMAIN
from sidecar.istio.names import PEERS_CONFIG_MAP
from sidecar.istio_commands import istio
from tests.e2e.istio.plan import Plan, Service

Object = Mapping[str, Any]

# What istiod reads of an apiVersion; install.istio.io is for istioctl.
_ISTIO = ("networking.istio.io/", "security.istio.io/")


@dataclass(frozen=True)
class Ours:
    """`istio` is what istiod reads; `peers` are the files of each namespace's ConfigMap."""

    istio: Sequence[Object]
    peers: Mapping[str, Mapping[str, str]]

    @classmethod
    def generated(
        cls, values: Mapping[str, Any], policies: Sequence[Object], directory: Path
    ) -> Ours:
        """As a user does it, in `directory`, which is made; `policies` are those of the mesh."""
        directory.mkdir()
        file, out = directory / "values.yaml", directory / "out"
        (directory / "policies.yaml").write_text(yaml.safe_dump_all(policies), encoding="utf-8")
        file.write_text(yaml.safe_dump({**values, "policies": ["policies.yaml"]}), encoding="utf-8")
        command = ["generate", "--values", str(file), "--out", str(out)]
        done = CliRunner().invoke(istio, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        objects = [
            each
            for written in sorted(out.rglob("*.yaml"))
            for each in yaml.safe_load_all(written.read_text(encoding="utf-8"))
            if each and "apiVersion" in each
        ]
        return cls(
            istio=[each for each in objects if each["apiVersion"].startswith(_ISTIO)],
            peers={
                each["metadata"]["namespace"]: each["data"]
                for each in objects
                if each["kind"] == "ConfigMap" and each["metadata"]["name"] == PEERS_CONFIG_MAP
            },
        )

    def with_peers(self, namespace: str, host: str, spiffe_ids: Sequence[str]) -> Ours:
        """The same but for who may answer for a host, as pods of a namespace see it."""
        ((name, text),) = self.peers[namespace].items()
        lists = {**json.loads(text), host: [*spiffe_ids]}
        return replace(self, peers={**self.peers, namespace: {name: json.dumps(lists)}})

    def mount_peers(self, namespace: str, directory: Path) -> None:
        """As the kubelet mounts them: whole files that replace the old ones."""
        for name, text in self.peers[namespace].items():
            new = directory / f"{name}.new"
            new.write_text(text, encoding="utf-8")
            new.rename(directory / name)


NOTHING = Ours((), {})


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
