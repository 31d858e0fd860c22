"""[identity] and [gateway.NAME]: the identities that a sidecar keeps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sidecar.config.field import setting
from sidecar.config.values import (
    duration,
    fraction,
    key_algorithm,
    key_id,
    names,
    path,
    sides,
    socket_path,
    switch,
    text,
)
from sidecar.core.certificate_verify import Side
from sidecar.core.schemes import KeyAlgorithm
from sidecar.core.spiffe import SpiffeId


@dataclass(frozen=True)
class CertifiedSettings:
    """What a workload's identity and a gateway's have in common."""

    spiffe_id: SpiffeId = setting(lambda v: SpiffeId.parse(text(v)), "the workload's SPIFFE ID")
    trust_bundle: Path | None = setting(
        path, "PEM file with the roots of its trust domain; or a [[trust]]", default=None
    )
    ca: tuple[str, ...] = setting(
        names, "names of the [[ca]] to ask, in this order; by default all", default=()
    )
    lifetime: timedelta = setting(
        duration, "wished lifetime of a certificate", default=timedelta(minutes=20)
    )
    longest: timedelta = setting(
        duration, "a certificate that lives longer is refused", default=timedelta(days=90)
    )
    renew_at: float = setting(
        fraction(0.01, 0.9), "the fraction of the lifetime at which it is renewed", default=0.5
    )
    renew_jitter: float = setting(
        fraction(0.0, 0.5),
        "the fraction of the lifetime by which that is earlier or later, by chance",
        default=0.1,
    )
    lease: timedelta | None = setting(
        duration,
        "how long its key signs after a CA has answered, also where its certificate is valid "
        "for longer; by default as long as that",
        default=None,
    )
    lease_grace: timedelta | None = setting(
        duration,
        "so much longer while no CA can be reached, never past the end of the certificate",
        default=None,
    )
    root_settle: timedelta = setting(
        duration,
        "how long a new root is published before a certificate under it is asked for",
        # A kubelet takes two to bring a changed ConfigMap to every pod.
        default=timedelta(minutes=3),
    )
    root_keep: timedelta = setting(
        duration,
        "how long a root that left the bundle is still trusted: what the longest certificate "
        "of its trust domain lives",
        default=timedelta(hours=24),
    )
    state: Path | None = setting(
        path,
        "directory, mode 0700, for its certificate: a restart takes it and its key up again",
        default=None,
    )
    tls12: bool = setting(switch, "whether its keys also sign handshakes of TLS 1.2", default=False)
    key_algorithm: KeyAlgorithm = setting(
        key_algorithm, "what its keys are", default=KeyAlgorithm.EC_P256
    )
    instance: str | None = setting(
        text,
        "tells this sidecar's keys from those of others on the same token that have its "
        "SPIFFE ID; by default its host's name and its socket",
        default=None,
    )
    orphan_grace: timedelta = setting(
        duration,
        "how long keys that an earlier start left behind are kept",
        default=timedelta(minutes=1),
    )
    key_id: bytes | None = setting(
        key_id, "instead: the key on the token, by its id, that it keeps", default=None
    )
    allow_imported: bool = setting(
        switch, "whether that may be a key that was imported", default=False
    )


@dataclass(frozen=True)
class IdentitySettings(CertifiedSettings):
    """[identity]: who this workload is."""

    sides: frozenset[Side] = setting(
        sides, "sides of TLS that its keys may sign for", default=frozenset(Side)
    )


@dataclass(frozen=True)
class GatewaySettings(CertifiedSettings):
    """[gateway.NAME]: a credential that a gateway serves with, never calls with."""

    socket: Path | None = setting(
        socket_path,
        "Unix socket, mode 0660, on which this credential alone is signed with; "
        "by default signer.socket",
        default=None,
    )

    @property
    def sides(self) -> frozenset[Side]:
        """Server side only."""
        return frozenset({Side.SERVER})
