"""Whom one identity trusts: its own trust domain, and those it is federated with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

import structlog
from cryptography.hazmat.primitives import hashes

from sidecar.core.roots import RootHistory
from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused, MeshkeyError, TrustUnavailable
from sidecar.trust.base import TrustSource

log = structlog.get_logger(__name__)

# A source that hangs must not hold up a renewal.
_PATIENCE = timedelta(seconds=10)


class TrustAnchors:
    """The last good roots of each trust domain. Each vouches for its own domain only.

    Use it from the event loop only, and with one `refresh` at a time.
    """

    def __init__(
        self,
        trust_domain: str,
        source: TrustSource,
        federated: Mapping[str, TrustSource],
        longest_leaf: timedelta,
    ) -> None:
        """`longest_leaf` is how long a root is still trusted after it left its source.

        Raises:
            ValueError: `trust_domain` is federated with itself.
        """
        if trust_domain in federated:
            raise ValueError(f"{trust_domain!r} is federated with itself")
        self._own = _Domain(trust_domain, source, RootHistory(trust_domain))
        others = (_Domain(name, other, RootHistory(name)) for name, other in federated.items())
        self._domains = (self._own, *others)
        self._longest_leaf = longest_leaf
        self._seen: tuple[TrustBundle, ...] = ()

    async def refresh(self, now: datetime, *, force: bool = False) -> bool:
        """Loads every source that is due, all at once; says whether `bundles` has changed.

        With `force` those that are not due, too.

        A source that fails keeps what it gave last, and its error is in `errors`.

        Raises:
            TrustUnavailable, CertificateRefused: the own trust domain never had any roots
                and has none now.
        """
        due = [domain for domain in self._domains if force or domain.is_due(now)]
        await asyncio.gather(*(domain.load(now, self._longest_leaf) for domain in due))
        if not self._own.history.known and self._own.failure is not None:
            raise self._own.failure
        bundles = self.bundles(now)
        changed = bundles != self._seen
        if changed:
            self._seen = bundles
            for bundle in bundles:
                log.info(
                    "trusted roots",
                    trust_domain=bundle.trust_domain,
                    sha256=[root.fingerprint(hashes.SHA256()).hex() for root in bundle.roots],
                )
        return changed

    @property
    def own(self) -> TrustBundle:
        """The configured roots of the own trust domain: one must have signed our own leaf.

        Those of other domains never vouch for it, nor does one on its way out. Empty before
        the first `refresh`.
        """
        return self._own.history.configured

    def bundles(self, now: datetime) -> tuple[TrustBundle, ...]:
        """Whom to trust at `now`: the own domain first, even without any root that is valid.

        Other domains without any are left out. With roots that have left their source while
        leaves under them may be in use.
        """
        others = (domain.history.trusted(now) for domain in self._domains[1:])
        return (self._own.history.trusted(now), *(bundle for bundle in others if bundle.roots))

    def settled_at(self, settle: timedelta) -> datetime | None:
        """When every configured root of the own domain will have been published for `settle`.

        `None` if that was so from the start.
        """
        return self._own.history.settled_at(settle)

    @property
    def errors(self) -> Mapping[str, str]:
        """What is wrong now, by trust domain, for whoever looks at the status."""
        return MappingProxyType(
            {domain.name: domain.complaint for domain in self._domains if domain.complaint}
        )


@dataclass
class _Domain:
    name: str
    source: TrustSource
    history: RootHistory
    looked: datetime | None = None
    # Of the last look.
    failure: MeshkeyError | None = None
    complaint: str = ""
    # One that has not come back: no second one is begun, or a file on a dead network mount
    # would take one thread after the other.
    loading: asyncio.Future[TrustBundle] | None = None

    def is_due(self, now: datetime) -> bool:
        # Also if the clock went back behind the last look.
        return self.looked is None or not self.looked <= now < self.looked + self.source.interval

    async def load(self, now: datetime, longest_leaf: timedelta) -> None:
        self.looked = now
        try:
            bundle = await self._loaded()
        except MeshkeyError as error:
            self.failure = error
            self._complain(str(error))
            return
        except Exception as error:  # noqa: BLE001  # one domain's bug holds up no other
            self.failure = TrustUnavailable(f"the source of {self.name}'s roots failed: {error!r}")
            self._complain(str(self.failure), bug=error)
            return
        self.failure = None
        self.history = self.history.observe(bundle, now, longest_leaf)
        self._complain(_nothing_valid(bundle, now))

    async def _loaded(self) -> TrustBundle:
        loading = self.loading or asyncio.ensure_future(self.source.load())
        self.loading = loading
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                bundle = await asyncio.shield(loading)
        except TimeoutError as error:
            raise TrustUnavailable(
                f"the source of {self.name}'s roots has not answered within "
                f"{_PATIENCE.total_seconds():g} s; what it gave before stays in use"
            ) from error
        finally:
            if loading.done():
                self.loading = None
        if bundle.trust_domain != self.name:
            raise CertificateRefused(f"a source of {self.name} gave roots of {bundle.trust_domain}")
        return bundle

    def _complain(self, complaint: str, bug: Exception | None = None) -> None:
        if complaint == self.complaint:
            return
        self.complaint = complaint
        if complaint:
            log.error("trust source failed", trust_domain=self.name, error=complaint, exc_info=bug)
        else:
            log.info("trust source works again", trust_domain=self.name)


def _nothing_valid(bundle: TrustBundle, now: datetime) -> str:
    end = max(root.not_valid_after_utc for root in bundle.roots)
    if now < end:
        return ""
    return (
        f"every root of {bundle.trust_domain} has expired, the last one "
        f"{end:%Y-%m-%dT%H:%M:%SZ}; put its successor where the roots are read from"
    )
