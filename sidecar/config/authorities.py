"""[[ca]]: who signs certificates. Each kind of authority has settings of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from sidecar.config.field import setting
from sidecar.config.values import (
    Address,
    address,
    duration,
    identity_name,
    path,
    socket_path,
    text,
    text_map,
)


@dataclass(frozen=True)
class CaSettings:
    """What every kind has."""

    kind: ClassVar[str]

    # By default the kind.
    name: str = setting(
        identity_name, "what identities and status call it; by default its kind", default=""
    )

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.kind)


@dataclass(frozen=True)
class LocalCaSettings(CaSettings):
    """meshkey's own issuer."""

    kind: ClassVar[str] = "local"

    socket: Path = setting(socket_path, "Unix socket of the local CA", kw_only=True)


@dataclass(frozen=True)
class IstioCaSettings(CaSettings):
    """istiod, or cert-manager's istio-csr."""

    kind: ClassVar[str] = "istio"

    address: Address = setting(
        address, "its host:port", default=Address("istiod.istio-system.svc", 15012)
    )
    root_file: Path = setting(
        path,
        "PEM file with the roots for TLS to it, and for nothing else",
        default=Path("/var/run/secrets/istio/root-cert.pem"),
    )
    token_file: Path = setting(
        path,
        "the projected service account token, read anew for each call",
        default=Path("/var/run/secrets/tokens/istio-token"),
    )
    cluster_id: str = setting(text, "the cluster's name in the mesh", default="Kubernetes")
    server_name: str | None = setting(
        text, "the name in its certificate, if that is not the host", default=None
    )
    cert_signer: str | None = setting(
        text, "CertSigner, for an istiod that has several signers", default=None
    )
    headers: Mapping[str, str] = setting(
        text_map, "more metadata for each call (CA_HEADER_* of Istio's agent)", default_factory=dict
    )
    deadline: timedelta = setting(
        duration, "how long a request may take, with its retries", default=timedelta(seconds=30)
    )


@dataclass(frozen=True)
class KubernetesCaSettings(CaSettings):
    """The certificate signing requests of the Kubernetes API."""

    kind: ClassVar[str] = "kubernetes"

    signer_name: str = setting(
        text, 'its signer, as in "clusterissuers.cert-manager.io/mesh"', kw_only=True
    )
    kubeconfig: Path | None = setting(
        path, "how to reach the API; by default as a pod does", default=None
    )
    deadline: timedelta = setting(
        duration, "how long approval and signature may take", default=timedelta(minutes=5)
    )


@dataclass(frozen=True)
class FileCaSettings(CaSettings):
    """A directory from which somebody carries requests to a CA, and certificates back."""

    kind: ClassVar[str] = "file"

    directory: Path = setting(
        path, "where NAME.csr is written, and NAME.pem awaited; NAME is ca.name", kw_only=True
    )
    deadline: timedelta = setting(
        duration, "how long to wait for the chain of one request", default=timedelta(hours=24)
    )


CA_KINDS: Mapping[str, type[CaSettings]] = {
    kind.kind: kind
    for kind in (LocalCaSettings, IstioCaSettings, KubernetesCaSettings, FileCaSettings)
}
