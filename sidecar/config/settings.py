"""Every setting there is, with its default and its one-line description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from sidecar.config.authorities import CaSettings
from sidecar.config.callers import BearerSettings, CallerSettings
from sidecar.config.deny_list import DenyListSettings
from sidecar.config.field import setting
from sidecar.config.identities import GatewaySettings, IdentitySettings
from sidecar.config.values import (
    Address,
    Size,
    at_most,
    ca_algorithm,
    count,
    duration,
    group_id,
    loopback_address,
    one_of,
    path,
    path_or_stdout,
    paths,
    size,
    socket_path,
    switch,
    text,
    user_id,
)
from sidecar.core.pkcs11_uri import Pkcs11Uri
from sidecar.core.schemes import KeyAlgorithm
from sidecar.core.spiffe import trust_domain
from sidecar.core.token_selector import TokenSelector

# The name of the identity in [identity].
DEFAULT = "default"

# The profiles of sidecar/token/profiles.py, without loading a PKCS#11 module's bindings.
PROFILE_NAMES = (
    "softhsm2",
    "tpm2",
    "p11-kit",
    "sgx-ctk",
    "kryoptic",
    "yubihsm2",
    "aws-cloudhsm",
    "generic",
)


class Mode(StrEnum):
    """What is tolerated."""

    DEVELOPMENT = "development"
    STANDARD = "standard"
    PRODUCTION = "production"


@dataclass(frozen=True)
class TokenSettings:
    """[token]: the PKCS#11 token that holds the keys.

    After `load`, `module` and `pin_file` are what applies, whoever named it.
    """

    label: str | None = setting(text, "label of the token; or `uri`", default=None)
    uri: Pkcs11Uri | None = setting(
        lambda v: Pkcs11Uri.parse(text(v)),
        "the token as an RFC 7512 URI; it may name the module and the PIN file too",
        default=None,
    )
    pin_file: Path | None = setting(
        path,
        "file with the user PIN, mode 0400, owned by the sidecar's user",
        default=None,
    )
    pin_sealed: Path | None = setting(
        path, "instead: PREFIX of what `meshkey token seal-pin --out PREFIX` wrote", default=None
    )
    module: Path = setting(
        path, "the PKCS#11 module", default=Path("/usr/lib/softhsm/libsofthsm2.so")
    )
    profile: str = setting(
        one_of("auto", *PROFILE_NAMES),
        "how this kind of token wants to be used; auto goes by the module's file name",
        default="auto",
    )
    mode: Mode = setting(
        lambda v: Mode(one_of(*Mode)(v)),
        "development tolerates well-known PINs and PINs in the environment; "
        "production refuses tokens in software",
        default=Mode.STANDARD,
    )
    state: Path | None = setting(
        path,
        "directory, mode 0700, that remembers a refused PIN, so that a restart does not repeat it",
        default=None,
    )
    threads: int = setting(
        count(1, 64), "threads, each with a session, that use the token at once", default=2
    )
    backlog: int = setting(
        count(1, 65536),
        "operations that may wait in each lane before callers are told busy",
        default=1024,
    )
    patience: timedelta = setting(
        # Below the 10 s of the Envoy module: it learns the reason before it gives up.
        at_most(timedelta(seconds=9)),
        "how long a signature may take before its caller is told to retry",
        default=timedelta(seconds=9),
    )

    @property
    def selector(self) -> TokenSelector:
        """Which token it is."""
        return self.uri.selector if self.uri else TokenSelector(label=self.label)


@dataclass(frozen=True)
class TrustSettings:
    """[[trust]]: where the roots of one trust domain come from. Exactly one source is named."""

    trust_domain: str = setting(
        lambda v: trust_domain(text(v)),
        "whose roots: an identity's own domain, or one that is federated with it",
    )
    file: Path | None = setting(
        path, "PEM file, also in a mounted ConfigMap; read again when it changes", default=None
    )
    spiffe_bundle: Path | None = setting(
        path, "instead: file with a SPIFFE bundle document (JWKS)", default=None
    )
    cluster_trust_bundle: str | None = setting(
        text,
        'instead: a Kubernetes ClusterTrustBundle, as in "istio.io:istiod-ca:root-cert"',
        default=None,
    )
    kubeconfig: Path | None = setting(
        path, "how to reach the API for that; by default as a pod does", default=None
    )


@dataclass(frozen=True)
class SignerSettings:
    """[signer]: the external signing API."""

    socket: Path = setting(
        socket_path, "Unix socket that it is served on, mode 0660, to Envoys with the module"
    )
    proxy: Path | None = setting(
        socket_path,
        "second Unix socket, mode 0660, for gRPC clients that cannot name their socket; slower",
        default=None,
    )
    group: int | None = setting(
        group_id,
        "the callers' group, a name or a number: this socket, those of gateways and sds.socket "
        "get it; by default the sidecar's own",
        default=None,
    )
    allow_own_user: bool = setting(
        switch,
        "for evaluation: whether callers may run as the sidecar's own user, or as root",
        default=False,
    )
    caller_rate: int = setting(
        count(1, 1_000_000),
        "signatures a second that one process may ask for before it is told busy",
        default=20_000,
    )
    key_rate: int = setting(
        count(1, 1_000_000),
        "signatures a second that may be asked for with one key, by all together",
        default=20_000,
    )


@dataclass(frozen=True)
class SdsSettings:
    """[sds]: chains and roots for Envoy's secret discovery service."""

    socket: Path = setting(socket_path, "Unix socket that it is served on, mode 0660")
    root_validator: str = setting(
        one_of("trusted_ca", "spiffe"),
        "what ROOTCA is: plain roots of the own trust domain, or Envoy's SPIFFE validator for all",
        default="trusted_ca",
    )
    refused_certificates: str = setting(
        one_of("alarm", "expected"),
        "a client that refuses a certificate: its key is kept and an error logged; or expected, "
        "where Envoys sign through the module and follow only roots here",
        default="alarm",
    )
    file_roots: frozenset[Path] = setting(
        paths, "files that callers may ask for as file-root:PATH", default=frozenset()
    )


@dataclass(frozen=True)
class AdminSettings:
    """[admin]: status and commands."""

    socket: Path = setting(socket_path, "Unix socket that it is served on, mode 0600")
    read_only: Path | None = setting(
        socket_path,
        "second Unix socket, mode 0660, that answers status and health and takes no commands",
        default=None,
    )


@dataclass(frozen=True)
class MetricsSettings:
    """[metrics]: numbers for Prometheus."""

    address: Address | None = setting(
        loopback_address, "loopback host:port that they are served on, over HTTP", default=None
    )
    socket: Path | None = setting(
        socket_path, "instead: Unix socket, mode 0660, for the same", default=None
    )


@dataclass(frozen=True)
class IssuerSettings:
    """[issuer]: the local CA, for evaluation."""

    socket: Path = setting(socket_path, "Unix socket that it is served on, mode 0660")
    trust_domain: str = setting(
        lambda v: trust_domain(text(v)), "the trust domain that it signs for"
    )
    root_file: Path = setting(path, "where it writes its root certificate, PEM")
    key_algorithm: KeyAlgorithm = setting(
        ca_algorithm, "what its key is, when it is founded", default=KeyAlgorithm.EC_P256
    )
    longest: timedelta = setting(
        duration, "longest lifetime that it gives", default=timedelta(hours=24)
    )


@dataclass(frozen=True)
class AuditSettings:
    """[audit]: the record of every signature, key and certificate."""

    directory: Path = setting(
        path, "where its files are: a directory of its own that nobody else can write"
    )
    strict: bool = setting(
        switch, "sign nothing while it cannot be written, as when the disk is full", default=False
    )
    seal_records: int = setting(
        count(1, 1_000_000), "so many records are sealed together, at most", default=1000
    )
    seal_interval: timedelta = setting(
        duration, "so long a record waits for its seal, at most", default=timedelta(seconds=10)
    )
    rotate_size: Size = setting(
        size, "a file of that size is followed by a new one", default=Size(64 << 20)
    )
    rotate_age: timedelta = setting(duration, "so is one of that age", default=timedelta(hours=24))
    anchor: str | None = setting(
        path_or_stdout,
        "file elsewhere, or stdout, that gets a copy of each seal: proof that no end was cut off",
        default=None,
    )


@dataclass(frozen=True)
class ProcessSettings:
    """[process]: what the sidecar runs as."""

    user: int | None = setting(
        user_id,
        "user, a name or a number, that it becomes when it is started as root",
        default=None,
    )


@dataclass(frozen=True)
class LogSettings:
    """[log]: what is written to standard error."""

    format: str = setting(one_of("json", "console"), "json or console", default="json")
    level: str = setting(
        one_of("debug", "info", "warning", "error"), "the least severe level", default="info"
    )


@dataclass(frozen=True)
class Settings:
    """The whole configuration. A section that is not there is `None`, or empty."""

    token: TokenSettings
    identity: IdentitySettings | None
    gateways: Mapping[str, GatewaySettings]
    authorities: tuple[CaSettings, ...]
    trust: tuple[TrustSettings, ...]
    callers: tuple[CallerSettings, ...]
    bearer: BearerSettings | None
    signer: SignerSettings | None
    sds: SdsSettings | None
    issuer: IssuerSettings | None
    admin: AdminSettings | None
    metrics: MetricsSettings | None
    audit: AuditSettings | None
    process: ProcessSettings
    deny_list: DenyListSettings | None
    log: LogSettings

    @property
    def identities(self) -> Mapping[str, IdentitySettings | GatewaySettings]:
        """By name; the workload's own is "default"."""
        return {**({DEFAULT: self.identity} if self.identity else {}), **self.gateways}


# Sections that are there once; any number of times: [[ca]], [[caller]], [[trust]], [gateway.NAME].
SECTIONS: Mapping[str, type[Any]] = {
    "token": TokenSettings,
    "identity": IdentitySettings,
    "signer": SignerSettings,
    "bearer": BearerSettings,
    "sds": SdsSettings,
    "issuer": IssuerSettings,
    "admin": AdminSettings,
    "metrics": MetricsSettings,
    "audit": AuditSettings,
    "process": ProcessSettings,
    "deny_list": DenyListSettings,
    "log": LogSettings,
}
