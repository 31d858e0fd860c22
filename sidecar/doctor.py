"""`meshkey doctor`: looks at what a sidecar would run on, and says what is wrong and why."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

from sidecar.ca.istio_credentials import read_roots, read_token
from sidecar.config.authorities import (
    CaSettings,
    FileCaSettings,
    IstioCaSettings,
    KubernetesCaSettings,
    LocalCaSettings,
)
from sidecar.config.identities import CertifiedSettings
from sidecar.config.settings import Settings, TokenSettings, TrustSettings
from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import CertificateRefused, ConfigurationError, MeshkeyError
from sidecar.identity.saved import SavedCertificates
from sidecar.token.base import Assurance, KeyId, Origin, TokenKey
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.probe import try_out
from sidecar.token.report import AlgorithmReport, TokenReport
from sidecar.trust.base import TrustSource
from sidecar.trust.pem_file import PemFile
from sidecar.trust.spiffe_bundle_file import SpiffeBundleFile


class Verdict(Enum):
    """How a finding is meant."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    verdict: Verdict
    detail: str


def examine(
    settings: Settings, open_token: Callable[[TokenSettings], Pkcs11Token], now: datetime
) -> Iterator[Finding]:
    """Yields what it finds, as it finds it. Blocks.

    Makes a trial key of each kind that the settings ask for, and destroys it. Asks nobody
    over a network.
    """
    yield from _token(settings, open_token)
    for section, identity in _sections(settings):
        yield from _identity(section, identity, now)
    for trust in settings.trust:
        yield _trust(settings, trust, now)
    for authority in settings.authorities:
        yield from _authority(authority)


def _token(
    settings: Settings, open_token: Callable[[TokenSettings], Pkcs11Token]
) -> Iterator[Finding]:
    try:
        token = open_token(settings.token)
    except MeshkeyError as error:
        yield Finding("token", Verdict.FAILURE, str(error))
        return
    try:
        report = token.report
        yield Finding(
            "token", Verdict.OK, f"{report.label!r}, {report.model}, profile {report.profile}"
        )
        yield _assurance(token.assurance)
        yield _sessions(settings.token.threads, report)
        for tried in try_out(token, _algorithms(settings)).algorithms:
            yield from _key(tried)
        yield from _given_keys(settings, token)
    except MeshkeyError as error:
        yield Finding("trial key", Verdict.FAILURE, str(error))
    finally:
        token.close()


def _sections(settings: Settings) -> Iterator[tuple[str, CertifiedSettings]]:
    """Each identity, with its name in the configuration."""
    if settings.identity:
        yield "identity", settings.identity
    for name, gateway in settings.gateways.items():
        yield f"gateway.{name}", gateway


def _algorithms(settings: Settings) -> list[KeyAlgorithm]:
    """Of the keys that would be made, each once."""
    sections = [identity for _, identity in _sections(settings)]
    if not sections and not settings.issuer:
        return [KeyAlgorithm.EC_P256]
    made = [identity.key_algorithm for identity in sections if identity.key_id is None]
    if settings.issuer:
        made.append(settings.issuer.key_algorithm)
    return list(dict.fromkeys(made))


def _given_keys(settings: Settings, token: Pkcs11Token) -> Iterator[Finding]:
    for section, identity in _sections(settings):
        if identity.key_id is not None:
            key_id = KeyId(identity.key_id)
            held = list(token.keys())
            key = next((key for key in held if key.id == key_id), None)
            yield _given_key(f"{section}: key_id", key_id, key, identity)


def _given_key(
    check: str, key_id: KeyId, key: TokenKey | None, identity: CertifiedSettings
) -> Finding:
    if key is None:
        detail = f"no key {key_id}; list its keys with: meshkey keys list"
        return Finding(check, Verdict.FAILURE, detail)
    if key.origin is Origin.IMPORTED and not identity.allow_imported:
        detail = f"{key_id}: imported; if that is as it must be, set allow_imported"
        return Finding(check, Verdict.FAILURE, detail)
    bad = key.origin is Origin.EXPOSED
    return Finding(check, Verdict.FAILURE if bad else Verdict.OK, f"{key_id}: {key.origin.value}")


def _identity(section: str, identity: CertifiedSettings, now: datetime) -> Iterator[Finding]:
    if identity.trust_bundle:
        source = PemFile(identity.spiffe_id.trust_domain, identity.trust_bundle)
        yield _tried(f"{section}: trust_bundle", lambda: _roots(source, now))
    if directory := identity.state:
        yield _tried(f"{section}: state", lambda: _private(directory))


def _trust(settings: Settings, trust: TrustSettings, now: datetime) -> Finding:
    check = f"trust {trust.trust_domain}"
    if trust.cluster_trust_bundle:
        return Finding(
            check, Verdict.OK, f"{trust.cluster_trust_bundle}: in the cluster, not asked"
        )
    own = {identity.spiffe_id.trust_domain for _, identity in _sections(settings)}
    # Of another domain: its peers are refused, and everything else goes on.
    bad = Verdict.FAILURE if trust.trust_domain in own else Verdict.WARNING
    source: TrustSource
    if trust.spiffe_bundle:
        source = SpiffeBundleFile(trust.trust_domain, trust.spiffe_bundle)
    else:
        assert trust.file
        source = PemFile(trust.trust_domain, trust.file)
    return _tried(check, lambda: _roots(source, now), bad)


def _roots(source: TrustSource, now: datetime) -> str:
    roots = asyncio.run(source.load()).roots
    end = max(root.not_valid_after_utc for root in roots)
    if end <= now:
        raise CertificateRefused(f"every root has expired, the last one {end:%Y-%m-%d}")
    return f"roots: {len(roots)}, the last one until {end:%Y-%m-%d}"


def _private(directory: Path) -> str:
    if not os.path.lexists(directory):
        if not directory.parent.is_dir():
            raise ConfigurationError(f"{directory.parent} is no directory; create it first")
        return f"{directory}: made at the start"
    SavedCertificates(directory)
    return f"{directory}: private"


def _authority(settings: CaSettings) -> Iterator[Finding]:
    check = f"ca {settings.name}"
    match settings:
        case IstioCaSettings():
            yield _tried(f"{check}: token_file", lambda: _read(read_token, settings.token_file))
            yield _tried(f"{check}: root_file", lambda: _read(read_roots, settings.root_file))
        case KubernetesCaSettings():
            yield _tried(f"{check}: credentials", lambda: _credentials(settings.kubeconfig))
        case FileCaSettings():
            yield _tried(f"{check}: directory", lambda: _writable(settings.directory))
        case LocalCaSettings():
            # It may be started later.
            there = settings.socket.is_socket()
            detail = "" if there else ": nothing serves it yet; start the local CA"
            verdict = Verdict.OK if there else Verdict.WARNING
            yield Finding(f"{check}: socket", verdict, f"{settings.socket}{detail}")


def _read(read: Callable[[Path], object], file: Path) -> str:
    read(file)
    return str(file)


def _credentials(kubeconfig: Path | None) -> str:
    from sidecar.kubernetes.connection import KubernetesConnection

    asyncio.run(KubernetesConnection(kubeconfig).check())
    return str(kubeconfig or "as in a pod")


def _writable(directory: Path) -> str:
    if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"{directory} must be a directory that user {os.geteuid()} may write to"
        )
    return str(directory)


def _tried(check: str, attempt: Callable[[], str], bad: Verdict = Verdict.FAILURE) -> Finding:
    try:
        return Finding(check, Verdict.OK, attempt())
    except MeshkeyError as error:
        return Finding(check, bad, str(error))


def _assurance(assurance: Assurance) -> Finding:
    if assurance is Assurance.HARDWARE:
        return Finding("assurance", Verdict.OK, "hardware")
    return Finding(
        "assurance",
        Verdict.WARNING,
        "software: whoever has the token's store and its PIN has the keys; for evaluation",
    )


def _sessions(threads: int, report: TokenReport) -> Finding:
    limit = "no limit" if report.session_limit is None else f"{report.session_limit} in all"
    if threads > report.concurrency:
        return Finding(
            "sessions",
            Verdict.WARNING,
            f"{limit}: {report.concurrency} of token.threads {threads} are used",
        )
    return Finding("sessions", Verdict.OK, f"{limit}, {threads} used and the login's")


def _key(tried: AlgorithmReport) -> Iterator[Finding]:
    if not tried.made:
        yield Finding("trial key", Verdict.FAILURE, tried.failure)
        return
    yield Finding("trial key", Verdict.OK, f"{tried.algorithm}, made in {tried.generation_ms} ms")
    born = tried.origin == Origin.BORN.value
    yield Finding(
        "readback",
        Verdict.OK if born else Verdict.FAILURE,
        "sensitive, not extractable, never was; made in the token" if born else tried.origin,
    )
    working = [scheme for scheme in tried.schemes if scheme.mechanism]
    yield Finding(
        "schemes",
        Verdict.OK if working else Verdict.FAILURE,
        ", ".join(f"{s.scheme} ({s.median_ms} ms)" for s in working) or "none works",
    )
