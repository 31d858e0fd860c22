"""What must hold between sections: names that are referred to exist, and exist once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from sidecar.config.authorities import FileCaSettings
from sidecar.config.identities import CertifiedSettings
from sidecar.config.settings import DEFAULT, Settings, TrustSettings
from sidecar.errors import ConfigurationError

# A secret's name with this ending means the roots beside the certificate.
CA_SUFFIX = "-cacert"
# Half of it is for renewals, and an attempt may take seconds.
_SHORTEST_LEASE = timedelta(seconds=10)


def checked(settings: Settings) -> Settings:
    """The same settings.

    Raises:
        ConfigurationError: two sections contradict each other, or one refers to nothing.
    """
    _once("ca.name", (authority.name for authority in settings.authorities))
    _once("trust.trust_domain", (trust.trust_domain for trust in settings.trust))
    for trust in settings.trust:
        _check_source(trust)
    for name in settings.gateways:
        if name == DEFAULT or name.endswith(CA_SUFFIX):
            raise ConfigurationError(f"[gateway.{name}]: that name is taken; choose another one")
    for name, identity in settings.identities.items():
        _check_identity("identity" if name == DEFAULT else f"gateway.{name}", identity, settings)
    _check_file_authorities(settings)
    _check_own(settings)
    _check_callers(settings)
    if settings.metrics and (settings.metrics.address is None) == (settings.metrics.socket is None):
        raise ConfigurationError("[metrics]: exactly one of address and socket is needed")
    return settings


def _check_source(trust: TrustSettings) -> None:
    sources = (trust.file, trust.spiffe_bundle, trust.cluster_trust_bundle)
    if sum(source is not None for source in sources) != 1:
        raise ConfigurationError(
            f"[[trust]] of {trust.trust_domain}: exactly one of file, spiffe_bundle and "
            "cluster_trust_bundle is needed"
        )


def _check_identity(section: str, identity: CertifiedSettings, settings: Settings) -> None:
    known = [authority.name for authority in settings.authorities]
    for name in identity.ca:
        if name not in known:
            raise ConfigurationError(f"{section}.ca: there is no [[ca]] with the name {name!r}")
    _once(f"{section}.ca", identity.ca)
    domain = identity.spiffe_id.trust_domain
    has_entry = any(trust.trust_domain == domain for trust in settings.trust)
    if identity.trust_bundle is None and not has_entry:
        raise ConfigurationError(
            f"{section}.trust_bundle is missing: PEM file with the roots of its trust domain; "
            f"or a [[trust]] with trust_domain {domain!r}"
        )
    if identity.trust_bundle is not None and has_entry:
        raise ConfigurationError(
            f"{section}.trust_bundle and the [[trust]] of {domain} say the same thing: "
            "leave one of them out"
        )
    if identity.renew_jitter >= identity.renew_at:
        raise ConfigurationError(
            f"{section}.renew_jitter must be less than {section}.renew_at ({identity.renew_at})"
        )
    if identity.renew_at + identity.renew_jitter >= 1:
        raise ConfigurationError(
            f"{section}: renew_at and renew_jitter reach the end of the certificate's life"
        )
    if identity.lease is not None and identity.lease < _SHORTEST_LEASE:
        raise ConfigurationError(
            f"{section}.lease is too short: half of it has to do for a renewal, so make it "
            f"{_SHORTEST_LEASE.seconds}s or more"
        )
    if identity.lease is None and identity.lease_grace:
        raise ConfigurationError(
            f"{section}.lease_grace extends a lease: set {section}.lease, too, or leave it out"
        )
    if identity.longest < identity.lifetime:
        raise ConfigurationError(
            f"{section}.longest is shorter than {section}.lifetime: what is asked for would be "
            "refused; raise the one or lower the other"
        )
    if identity.root_keep < identity.lifetime:
        raise ConfigurationError(
            f"{section}.root_keep is shorter than {section}.lifetime: certificates would outlive "
            "the trust in their root; set root_keep to what the longest one in the mesh lives"
        )


def _check_file_authorities(settings: Settings) -> None:
    files = {a.name for a in settings.authorities if isinstance(a, FileCaSettings)}
    used = Counter(
        name
        for identity in settings.identities.values()
        for name in identity.ca or [a.name for a in settings.authorities]
        if name in files
    )
    for name, times in used.items():
        if times > 1:
            raise ConfigurationError(
                f"ca {name!r}, of kind file, is for one identity, not {times}: give each a [[ca]] "
                "of its own, and say in its `ca` which"
            )


def _check_callers(settings: Settings) -> None:
    _once("caller.name", (caller.name for caller in settings.callers))
    for caller in settings.callers:
        for name in caller.identities:
            if name not in settings.identities:
                known = ", ".join(settings.identities) or "none"
                raise ConfigurationError(
                    f"caller {caller.name!r}: there is no identity {name!r}; there are: {known}"
                )
    if any(caller.bearer_subject for caller in settings.callers) != (settings.bearer is not None):
        raise ConfigurationError(
            "[bearer] and bearer_subject in a [[caller]] need each other: a token that no rule "
            "asks for protects nothing, and one that nobody can verify admits no one"
        )


def _check_own(settings: Settings) -> None:
    keys = [i.key_id.hex() for i in settings.identities.values() if i.key_id]
    for key, times in Counter(keys).items():
        if times > 1:
            raise ConfigurationError(
                f"key_id {key!r} is there {times} times: give each identity a key of its own, or "
                "what one may not sign another one would"
            )
    for socket, times in Counter(_sockets(settings)).items():
        if times > 1:
            raise ConfigurationError(
                f"socket {socket} is there {times} times: choose another path for each, as its "
                "directory decides who is served on it"
            )


def _sockets(settings: Settings) -> Iterator[Path]:
    sections = (settings.signer, settings.sds, settings.issuer, settings.admin, settings.metrics)
    for section in (*sections, *settings.gateways.values()):
        for name in ("socket", "read_only", "proxy"):
            if path := getattr(section, name, None):
                yield path


def _once(what: str, names: Iterable[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise ConfigurationError(f"{what}: {name!r} is there {times} times")
