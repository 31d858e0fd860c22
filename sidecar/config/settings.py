"""Every setting there is, with its default and its one-line description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from sidecar.config.values import (
    Address,
    address,
    at_most,
    ca_algorithm,
    count,
    duration,
    key_algorithm,
    key_id,
    one_of,
    path,
    sides,
    socket_path,
    switch,
    text,
)
from sidecar.core.certificate_verify import Side
from sidecar.core.pkcs11_uri import Pkcs11Uri
from sidecar.core.schemes import KeyAlgorithm
from sidecar.core.spiffe import SpiffeId, trust_domain
from sidecar.core.token_selector import TokenSelector

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


def _setting(parse: Callable[[Any], Any], help: str, **kwargs: Any) -> Any:
    return field(metadata={"parse": parse, "help": help}, **kwargs)


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

    label: str | None = _setting(text, "label of the token; or `uri`", default=None)
    uri: Pkcs11Uri | None = _setting(
        lambda v: Pkcs11Uri.parse(text(v)),
        "the token as an RFC 7512 URI; it may name the module and the PIN file too",
        default=None,
    )
    pin_file: Path | None = _setting(
        path,
        "file with the user PIN, mode 0400, owned by the sidecar's user",
        default=None,
    )
    pin_sealed: Path | None = _setting(
        path, "instead: PREFIX of what `meshkey token seal-pin --out PREFIX` wrote", default=None
    )
    module: Path = _setting(
        path, "the PKCS#11 module", default=Path("/usr/lib/softhsm/libsofthsm2.so")
    )
    profile: str = _setting(
        one_of("auto", *PROFILE_NAMES),
        "how this kind of token wants to be used; auto goes by the module's file name",
        default="auto",
    )
    mode: Mode = _setting(
        lambda v: Mode(one_of(*Mode)(v)),
        "development tolerates well-known PINs and PINs in the environment; "
        "production refuses tokens in software",
        default=Mode.STANDARD,
    )
    state: Path | None = _setting(
        path,
        "directory, mode 0700, that remembers a refused PIN, so that a restart does not repeat it",
        default=None,
    )
    threads: int = _setting(
        count(1, 64), "threads, each with a session, that use the token at once", default=2
    )
    backlog: int = _setting(
        count(1, 65536),
        "operations that may wait in each lane before callers are told busy",
        default=1024,
    )
    patience: timedelta = _setting(
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
class IdentitySettings:
    """[identity]: who this workload is."""

    spiffe_id: SpiffeId = _setting(lambda v: SpiffeId.parse(text(v)), "the workload's SPIFFE ID")
    trust_bundle: Path = _setting(path, "PEM file with the roots of its trust domain")
    lifetime: timedelta = _setting(
        duration, "wished lifetime of a certificate", default=timedelta(minutes=20)
    )
    key_algorithm: KeyAlgorithm = _setting(
        key_algorithm, "what its keys are", default=KeyAlgorithm.EC_P256
    )
    instance: str | None = _setting(
        text,
        "tells this sidecar's keys from those of others on the same token that have its "
        "SPIFFE ID; by default its host's name and its socket",
        default=None,
    )
    orphan_grace: timedelta = _setting(
        duration,
        "how long keys that an earlier start left behind are kept",
        default=timedelta(minutes=1),
    )
    key_id: bytes | None = _setting(
        key_id, "instead: the key on the token, by its id, that it keeps", default=None
    )
    allow_imported: bool = _setting(
        switch, "whether that may be a key that was imported", default=False
    )
    sides: frozenset[Side] = _setting(
        sides, "sides of TLS that its keys may sign for", default=frozenset(Side)
    )


@dataclass(frozen=True)
class CaSettings:
    """[ca]: who signs its certificates."""

    socket: Path = _setting(socket_path, "Unix socket of the local CA")


@dataclass(frozen=True)
class SignerSettings:
    """[signer]: the external signing API."""

    socket: Path = _setting(socket_path, "Unix socket that it is served on, mode 0660")


@dataclass(frozen=True)
class AdminSettings:
    """[admin]: status and commands."""

    socket: Path = _setting(socket_path, "Unix socket that it is served on, mode 0600")


@dataclass(frozen=True)
class MetricsSettings:
    """[metrics]: numbers for Prometheus."""

    address: Address = _setting(address, "host:port that they are served on, over HTTP")


@dataclass(frozen=True)
class IssuerSettings:
    """[issuer]: the local CA, for evaluation."""

    socket: Path = _setting(socket_path, "Unix socket that it is served on, mode 0660")
    trust_domain: str = _setting(
        lambda v: trust_domain(text(v)), "the trust domain that it signs for"
    )
    root_file: Path = _setting(path, "where it writes its root certificate, PEM")
    key_algorithm: KeyAlgorithm = _setting(
        ca_algorithm, "what its key is, when it is founded", default=KeyAlgorithm.EC_P256
    )
    longest: timedelta = _setting(
        duration, "longest lifetime that it gives", default=timedelta(hours=24)
    )


@dataclass(frozen=True)
class LogSettings:
    """[log]: what is written to standard error."""

    format: str = _setting(one_of("json", "console"), "json or console", default="json")
    level: str = _setting(
        one_of("debug", "info", "warning", "error"), "the least severe level", default="info"
    )


@dataclass(frozen=True)
class Settings:
    """The whole configuration. A section that is not there is `None`."""

    token: TokenSettings
    identity: IdentitySettings | None
    ca: CaSettings | None
    signer: SignerSettings | None
    issuer: IssuerSettings | None
    admin: AdminSettings | None
    metrics: MetricsSettings | None
    log: LogSettings


SECTIONS: Mapping[str, type[Any]] = {
    "token": TokenSettings,
    "identity": IdentitySettings,
    "ca": CaSettings,
    "signer": SignerSettings,
    "issuer": IssuerSettings,
    "admin": AdminSettings,
    "metrics": MetricsSettings,
    "log": LogSettings,
}
