"""Roots over time: new ones are published before they are used, old ones stay while needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509

from sidecar.core.trust import TrustBundle


@dataclass(frozen=True)
class RootHistory:
    """What was configured for one trust domain since this process began to look.

    It lives in memory only: after a restart nothing but the configuration is trusted. So
    a root that must go at once, because its key is in the wrong hands, goes by a restart.

    Make one with the name alone and `observe` from then on.
    """

    trust_domain: str
    known: tuple[KnownRoot, ...] = ()
    leaving: tuple[LeavingRoot, ...] = ()

    def observe(
        self, configured: TrustBundle, now: datetime, longest_leaf: timedelta
    ) -> RootHistory:
        """The history after `configured` was read at `now`.

        A root that is not in it any more stays trusted for `longest_leaf`, by when every
        leaf that it had signed has expired. One that is back is simply configured again.

        Raises:
            ValueError: `configured` is another trust domain's.
        """
        if configured.trust_domain != self.trust_domain:
            raise ValueError(f"roots of {configured.trust_domain!r}, not {self.trust_domain!r}")
        known_before = [_not_later(root, now) for root in self.known]
        leaving_before = [
            replace(root, left=min(root.left, now), root=_not_later(root.root, now))
            for root in self.leaving
            if root.is_trusted(now)
        ]
        published = {root.certificate: root for root in known_before}
        published |= {root.root.certificate: root.root for root in leaving_before}
        since = now if self.known else None
        known = {c: published.get(c) or KnownRoot(c, since) for c in configured.roots}
        gone = [LeavingRoot(root, left=now, stays=longest_leaf) for root in known_before]
        return RootHistory(
            self.trust_domain,
            tuple(known.values()),
            tuple(
                root
                for root in (*leaving_before, *gone)
                if root.root.certificate not in known and root.is_trusted(now)
            ),
        )

    @property
    def configured(self) -> TrustBundle:
        """The roots as configured, expired ones among them.

        For a new leaf of our own: a root on its way out does not vouch for it, and an
        expired one lets the check say what is wrong.
        """
        return TrustBundle(self.trust_domain, tuple(root.certificate for root in self.known))

    def trusted(self, now: datetime) -> TrustBundle:
        """Whom to trust at `now`: the configured roots in their order, then those leaving.

        Never an expired one: verifiers that hold roots as bare names and keys (RFC 5280
        section 6.1.1 (d)) do not look at a root's dates. Empty if all have expired.
        """
        known = [root.certificate for root in self.known if _is_valid(root.certificate, now)]
        leaving = [root.root.certificate for root in self.leaving if root.is_trusted(now)]
        return TrustBundle(self.trust_domain, (*known, *leaving))

    def settled_at(self, settle: timedelta) -> datetime | None:
        """When the newest configured root will have been published for `settle`.

        From then on a leaf under it is understood by everyone who looks that often.
        `None` if all were there at the first look: who trusts us was configured as we were.
        """
        published = [root.since for root in self.known if root.since is not None]
        return max(published) + settle if published else None


@dataclass(frozen=True)
class KnownRoot:
    """A root that is or was configured. Two roots are the same if their DER is."""

    certificate: x509.Certificate
    # When it was first seen; `None` for one of the first look.
    since: datetime | None


@dataclass(frozen=True)
class LeavingRoot:
    """A root that is configured no more; leaves that it signed may still be in use."""

    root: KnownRoot
    left: datetime
    stays: timedelta

    def is_trusted(self, now: datetime) -> bool:
        """Until `stays` after it `left`, and not once it has expired itself."""
        return now < self.left + self.stays and _is_valid(self.root.certificate, now)


def _not_later(root: KnownRoot, now: datetime) -> KnownRoot:
    # A clock that was ahead and was put right must not hold everything up for as long.
    return replace(root, since=min(root.since, now)) if root.since else root


def _is_valid(root: x509.Certificate, now: datetime) -> bool:
    return now < root.not_valid_after_utc
