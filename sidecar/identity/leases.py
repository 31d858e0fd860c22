"""The leases of one identity's keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from sidecar.core.chain import CertificateChain
from sidecar.core.lease import Lease, LeaseTerms, Reading, Standing
from sidecar.core.rotation import Health
from sidecar.errors import (
    AuthorityError,
    AuthorityUnavailable,
    RefusalReason,
    SigningRefused,
    TrustUnavailable,
)
from sidecar.token.base import KeyId

log = structlog.get_logger(__name__)


class Leases:
    """Begins, extends and ends them. A key without a lease may not sign.

    A key that was replaced goes on under its own lease. Use it from the event loop only.
    """

    def __init__(
        self, terms: LeaseTerms, clock: Callable[[], Reading], boot: Callable[[], timedelta]
    ) -> None:
        """`boot` is that clock of `clock` alone: it is looked at for each signature."""
        self.terms = terms
        self.clock = clock
        self._boot = boot
        # Set when the newest lease is another one, or in another standing.
        self.changed = asyncio.Event()
        self._leases: dict[KeyId, Lease] = {}
        self._newest: KeyId | None = None

    @property
    def newest(self) -> Lease | None:
        """The lease of the key in use; `None` before the first."""
        return self._leases.get(self._newest) if self._newest else None

    def begin(self, key_id: KeyId, chain: CertificateChain) -> None:
        """A CA has answered just now."""
        self.resume(key_id, Lease.begin(self.terms, self.clock(), chain))

    def resume(self, key_id: KeyId, lease: Lease) -> None:
        """The key of an earlier start goes on under the lease that it had."""
        self._leases[key_id] = lease
        self._newest = key_id
        self.changed.set()

    def drop(self, key_id: KeyId) -> None:
        """The key is gone."""
        self._leases.pop(key_id, None)

    def require(self, key_id: KeyId) -> None:
        """Raises `SigningRefused` where the key has no lease, or one that is over."""
        lease = self._leases.get(key_id)
        if lease is None:
            raise SigningRefused(RefusalReason.LEASE, "the key has no lease")
        if lease.is_over(self._boot()):
            raise SigningRefused(
                RefusalReason.LEASE,
                f"the key's lease is over: {lease.silence}; see last error in: meshkey status",
            )

    def renewal_failed(self, error: Exception) -> None:
        """No new certificate: the grace counts where nobody could be reached to ask for it.

        What a CA has refused is not to go on because it cannot be reached after that. Anything
        else, such as a bug or a token that is full, away or busy, says nothing about the CA.
        """
        if (lease := self.newest) is None or self._newest is None:
            return
        if isinstance(error, AuthorityUnavailable | TrustUnavailable):
            after = lease.unreachable()
        elif isinstance(error, AuthorityError):
            after = lease.refused()
        else:
            return
        if after.standing is lease.standing:
            return
        self._leases[self._newest] = after
        self.changed.set()
        until = after.end(self.clock()).isoformat(timespec="seconds")
        if after.standing is Standing.REFUSED:
            log.warning("CA refused, no grace", key_id=str(self._newest), until=until)
        elif after.grace:
            log.warning("lease extended, no CA answers", key_id=str(self._newest), until=until)

    def renew_before(self, not_after: datetime) -> datetime:
        """What a renewal of the key in use is planned for; `not_after` is its certificate's."""
        lease = self.newest
        return min(not_after, lease.renew_before(self.clock())) if lease else not_after

    def end(self, not_after: datetime) -> datetime | None:
        """When the key in use signs no more unless a CA answers, by the wall clock of now."""
        lease = self.newest
        return min(not_after, lease.end(self.clock())) if lease else None

    def health(self, rotation: Health, wall: datetime, not_after: datetime) -> Health:
        """How the key in use is doing, where `rotation` is how its renewal is doing.

        That counts on the end of the lease without a grace, which is no end yet.
        """
        if wall >= not_after:
            return Health.EXPIRED
        lease = self.newest
        if lease is None or lease.is_over(self._boot()):
            return Health.LAPSED
        return Health.CRITICAL if rotation is Health.EXPIRED else rotation
