"""From names to secrets: what the identities and the configured files have for a name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from sidecar.callers.base import Admitted
from sidecar.errors import SecretNotReady, UnknownIdentity, UnknownSecret
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.identity.snapshot import Snapshot, Withdrawal
from sidecar.sds import resources
from sidecar.sds.names import (
    CertificateOf,
    EveryDomainOf,
    Meaning,
    RootsInFile,
    RootsOf,
    RootsOfDomain,
    RootValidator,
    forms,
    meaning,
    shown,
)
from sidecar.sds.root_files import RootFiles
from sidecar.sds.watched import RefusedCertificates, Watched
from sidecar.telemetry import SdsCounts

# So many names of identities and files are listed at most: a status travels in a header.
_LISTED = 8


class SecretSource:
    """What there is for one caller: identities that it may follow, and the files.

    Answers once, or follows what a name stands for. Use it from the event loop.
    """

    def __init__(
        self,
        registry: IdentityRegistry,
        files: RootFiles,
        root_validator: RootValidator,
        counts: SdsCounts,
        admitted: Admitted,
        refused_certificates: RefusedCertificates = RefusedCertificates.ALARM,
    ) -> None:
        self.counts = counts
        self._admitted = admitted
        self._registry = registry
        self._files = files
        self._root_validator = root_validator
        self._refusals_expected = refused_certificates is RefusedCertificates.EXPECTED

    def require_known(self, name: str) -> None:
        """Raises `UnknownSecret` where no identity or file of ours can have it.

        So it does for an identity that the caller may not follow, or not any more.
        """
        self._meaning(name)

    async def now(self, name: str) -> bytes:
        """The secret as it is.

        Raises:
            UnknownSecret: there is none of that name.
            IdentityDeprovisioned: its identity was ended on command.
            SecretNotReady: its identity has no certificate yet, or its file cannot be read.
        """
        meant = self._meaning(name)
        if isinstance(meant, RootsInFile):
            return resources.trusted_ca(name, await self._files.load(meant.path))
        identity = self._identity(meant.identity)
        identity.ending.require_active()
        if (snapshot := identity.store.current) is None:
            because = f": {identity.last_error}" if identity.last_error else ""
            raise SecretNotReady(f"identity {identity.name!r} has no certificate yet{because}")
        return _built(name, meant, snapshot) or self.refuse(name)

    async def follow(self, watched: Watched, changed: Callable[[], None]) -> None:
        """Keeps `watched` as it is here, and calls `changed` each time, until cancelled."""
        meant = self._meaning(watched.name)
        if isinstance(meant, RootsInFile):
            await self._follow_file(watched, meant.path, changed)
        else:
            watched.refusal_expected = self._refusals_expected and isinstance(meant, CertificateOf)
            await _follow_identity(watched, meant, self._identity(meant.identity), changed)

    def refuse(self, name: str) -> NoReturn:
        """Raises `UnknownSecret` for a name that is well-formed and stands for nothing."""
        raise UnknownSecret(f"no secret {shown(name)}; {self._what_there_is()}")

    def _meaning(self, name: str) -> Meaning:
        try:
            meant = meaning(name, self._root_validator, self._files.paths)
        except UnknownSecret as error:
            raise UnknownSecret(f"{error}; {self._what_there_is()}") from None
        if not isinstance(meant, RootsInFile):
            try:
                self._identity(meant.identity)
            except UnknownIdentity:
                self.refuse(name)
        return meant

    def _identity(self, name: str) -> Identity:
        return self._registry.permitted(name, self._admitted.permissions)

    def _what_there_is(self) -> str:
        permitted = self._admitted.permissions
        identities = _listed([each.name for each in self._registry if each.name in permitted])
        files = _listed(sorted(map(str, self._files.paths)))
        return f"ask for {forms()}; identities: {identities}; files: {files}"

    async def _follow_file(self, watched: Watched, path: Path, changed: Callable[[], None]) -> None:
        async for generation, bundle in self._files.follow(path):
            watched.update(resources.trusted_ca(watched.name, bundle), generation)
            changed()


async def _follow_identity(
    watched: Watched,
    meant: CertificateOf | RootsOf | EveryDomainOf | RootsOfDomain,
    identity: Identity,
    changed: Callable[[], None],
) -> None:
    waited_for = not watched.refusal_expected
    with identity.store.subscribe("sds", watched.name, waited_for=waited_for) as subscription:
        watched.answer = subscription.answer
        while True:
            newest = await subscription.next()
            if isinstance(newest, Withdrawal):
                watched.withdraw(newest.generation)
            else:
                watched.update(_built(watched.name, meant, newest), newest.generation)
            changed()


def _built(
    name: str,
    meant: CertificateOf | RootsOf | EveryDomainOf | RootsOfDomain,
    snapshot: Snapshot,
) -> bytes:
    """The secret, or nothing where the snapshot has no such trust domain."""
    match meant:
        case CertificateOf():
            return resources.tls_certificate(name, snapshot)
        case RootsOf():
            return resources.trusted_ca(name, snapshot.bundles[0])
        case EveryDomainOf():
            return resources.spiffe_validator(name, snapshot.bundles)
        case RootsOfDomain(trust_domain=wanted):
            for bundle in snapshot.bundles:
                if bundle.trust_domain == wanted:
                    return resources.trusted_ca(name, bundle)
            return b""


def _listed(names: list[str]) -> str:
    more = ", ..." if len(names) > _LISTED else ""
    return ", ".join(map(shown, names[:_LISTED])) + more if names else "none"
