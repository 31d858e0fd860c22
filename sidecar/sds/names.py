"""What a name asked for over SDS means. Names come from outside: nothing here touches a file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sidecar.core.spiffe import trust_domain
from sidecar.errors import UnknownSecret
from sidecar.identity.registry import DEFAULT

MAX_NAME_BYTES = 2048

# As Istio's proxies spell them, but for ALL, which is SPIRE's.
_CERTIFICATE = "default"
_ROOTS = "ROOTCA"
_EVERY_DOMAIN = "ALL"
_DOMAIN = "spiffe://"
_IDENTITY = "sds://"
_CLIENTS = "-cacert"
_FILE = "file-root:"
_KEY_IN_FILE = "file-cert:"
_SHOWN = 100


class RootValidator(Enum):
    """With which of Envoy's validators `ROOTCA` is answered."""

    # Every certificate under the roots of our own trust domain.
    TRUSTED_CA = "trusted_ca"
    # Each trust domain's certificates under that domain's roots only.
    SPIFFE = "spiffe"


@dataclass(frozen=True)
class CertificateOf:
    """The chain of an identity, and where its key is."""

    identity: str


@dataclass(frozen=True)
class RootsOf:
    """The roots of an identity's own trust domain."""

    identity: str


@dataclass(frozen=True)
class EveryDomainOf:
    """Each trust domain that an identity trusts, kept apart from the others."""

    identity: str


@dataclass(frozen=True)
class RootsOfDomain:
    """The roots of one of the trust domains that an identity trusts."""

    identity: str
    trust_domain: str


@dataclass(frozen=True)
class RootsInFile:
    """The certificates in a file that the configuration names."""

    path: Path


Meaning = CertificateOf | RootsOf | EveryDomainOf | RootsOfDomain | RootsInFile


def meaning(name: str, root_validator: RootValidator, file_roots: frozenset[Path]) -> Meaning:
    """What `name` asks for; whether there is such an identity or trust domain is not looked at.

    Raises:
        UnknownSecret: no name of ours, or a file that is not one of `file_roots`.
    """
    if name == _CERTIFICATE:
        return CertificateOf(DEFAULT)
    if name == _ROOTS:
        spiffe = root_validator is RootValidator.SPIFFE
        return EveryDomainOf(DEFAULT) if spiffe else RootsOf(DEFAULT)
    if name == _EVERY_DOMAIN:
        return EveryDomainOf(DEFAULT)
    if name.startswith(_DOMAIN):
        return _domain(name)
    if name.startswith(_IDENTITY):
        return _identity(name)
    if name.startswith(_FILE):
        return _file(name, file_roots)
    if name.startswith(_KEY_IN_FILE):
        raise UnknownSecret(f"no secret {shown(name)}: keys in files are not served")
    raise UnknownSecret(f"no secret {shown(name)}")


def forms() -> str:
    """Every form that a name may have."""
    return (
        f"{_CERTIFICATE}, {_ROOTS}, {_EVERY_DOMAIN}, {_DOMAIN}<trust domain>, "
        f"{_IDENTITY}<identity>, {_IDENTITY}<identity>{_CLIENTS}, {_FILE}<path>"
    )


def shown(name: str) -> str:
    """`name` as it may appear in a message: quoted, printable, not too long."""
    return ascii(name if len(name) <= _SHOWN else name[:_SHOWN] + "...")


def _domain(name: str) -> RootsOfDomain:
    try:
        return RootsOfDomain(DEFAULT, trust_domain(name.removeprefix(_DOMAIN)))
    except ValueError:
        raise UnknownSecret(
            f"no secret {shown(name)}: after {_DOMAIN} comes a trust domain and nothing else"
        ) from None


def _identity(name: str) -> CertificateOf | RootsOf:
    identity = name.removeprefix(_IDENTITY)
    # So no identity's name may end with it; Istio decides the same way.
    clients = identity.endswith(_CLIENTS)
    identity = identity.removesuffix(_CLIENTS)
    if not identity:
        raise UnknownSecret(f"no secret {shown(name)}: the identity's name is missing")
    return RootsOf(identity) if clients else CertificateOf(identity)


def _file(name: str, file_roots: frozenset[Path]) -> RootsInFile:
    # The path that is opened later is the configured one: a caller can choose, not name.
    asked = name.removeprefix(_FILE)
    for path in file_roots:
        if str(path) == asked:
            return RootsInFile(path)
    raise UnknownSecret(f"no secret {shown(name)}: the configuration allows no such file")
