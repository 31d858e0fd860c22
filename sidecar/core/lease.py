"""How long a key may sign after a CA has answered: counted on a clock that nobody sets.

A certificate ends by the wall clock, which somebody may set back. Its key's lease ends by
CLOCK_BOOTTIME, which counts the time for which the machine was suspended and starts anew with
each boot; what is left then is told by the wall clock, if that has not gone back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from functools import cached_property
from hashlib import sha256

from sidecar.core.chain import CertificateChain
from sidecar.errors import CertificateRefused

# Whoever keeps a lease notes it this often, or better: of a life that ended without warning
# so much at most is not in its last note.
NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Reading:
    """One look at both clocks."""

    # Somebody may set it.
    wall: datetime
    # Since the boot; never set, and goes on while the machine is suspended.
    boot: timedelta


@dataclass(frozen=True)
class LeaseTerms:
    """What is configured."""

    # `None`: what is left of the certificate when it is obtained.
    length: timedelta | None = None
    # So much more while no CA can be reached.
    grace: timedelta = timedelta(0)


class Standing(Enum):
    """What became of the last attempts to renew."""

    HELD = "held"
    # No CA could be reached: the grace counts.
    EXTENDED = "extended"
    # A CA has said no: there is no grace, whatever comes after.
    REFUSED = "refused"


@dataclass(frozen=True)
class Lease:
    """On one certificate's key. Each event gives the lease after it."""

    # SHA-256 of the leaf, in hexadecimal.
    certificate: str
    # When the CA answered, for people: by the wall clock of then.
    answered: datetime
    # The same on the boot clock; before the boot if it was in an earlier one.
    begun: timedelta
    length: timedelta
    grace: timedelta
    standing: Standing = Standing.HELD

    @classmethod
    def begin(cls, terms: LeaseTerms, now: Reading, chain: CertificateChain) -> Lease:
        """A CA has answered with `chain`. Neither lease nor grace reach beyond its end."""
        left = max(chain.not_after - now.wall, timedelta(0))
        length = left if terms.length is None else min(terms.length, left)
        return cls(
            certificate=_digest(chain),
            answered=now.wall,
            begun=now.boot,
            length=length,
            grace=min(terms.grace, left - length),
        )

    def unreachable(self) -> Lease:
        """A renewal found no CA that answers."""
        refused = self.standing is Standing.REFUSED
        return self if refused else replace(self, standing=Standing.EXTENDED)

    def refused(self) -> Lease:
        """A CA has answered, and the answer is no."""
        return replace(self, standing=Standing.REFUSED)

    @cached_property
    def deadline(self) -> timedelta:
        """From this moment of the boot clock on nothing is signed."""
        extended = self.standing is Standing.EXTENDED
        return self.begun + self.length + (self.grace if extended else timedelta(0))

    def end(self, now: Reading) -> datetime:
        """The deadline as a date, by the wall clock of now."""
        return now.wall + (self.deadline - now.boot)

    def renew_before(self, now: Reading) -> datetime:
        """The same without the grace, which no plan counts on."""
        return now.wall + (self.begun + self.length - now.boot)

    def is_over(self, boot: timedelta) -> bool:
        """Whether nothing may be signed under it at `boot`, on the boot clock."""
        return boot >= self.deadline

    @property
    def silence(self) -> str:
        """What to say when it is over, after that it is."""
        since = self.answered.isoformat(timespec="seconds")
        return f"no CA has issued a certificate since {since}"


@dataclass(frozen=True)
class LeaseNote:
    """A lease as it was when it was last looked at: what outlives the process."""

    lease: Lease
    # Which boot its times are of; empty where that cannot be told.
    boot_id: str
    seen: Reading
    # The latest date that the wall clock has shown since the CA answered.
    mark: datetime

    @classmethod
    def take(cls, lease: Lease, boot_id: str, now: Reading, before: LeaseNote | None) -> LeaseNote:
        """Notes it now; `before` is the last note, of this lease or of another one."""
        same = before is not None and before.lease.certificate == lease.certificate
        mark = max(before.mark, now.wall) if before is not None and same else now.wall
        return cls(lease, boot_id, now, mark)

    def resume(
        self, terms: LeaseTerms, boot_id: str, now: Reading, chain: CertificateChain
    ) -> Lease:
        """The lease after a restart: never a longer one, whatever the terms are by now.

        Raises:
            CertificateRefused: it is over, or it cannot be told how much of it is left.
        """
        if self.lease.certificate != _digest(chain):
            raise CertificateRefused("the lease that was noted is another certificate's")
        if now.wall < self.mark:
            raise CertificateRefused(
                f"the clock says {now.wall.isoformat(timespec='seconds')} and was at "
                f"{self.mark.isoformat(timespec='seconds')} before: nothing is signed until a CA "
                "answers; see that the clock is right"
            )
        length = self.lease.length
        lease = replace(
            self.lease,
            begun=now.boot - self._age(boot_id, now),
            length=length if terms.length is None else min(length, terms.length),
            grace=min(self.lease.grace, terms.grace),
        )
        if lease.is_over(now.boot):
            raise CertificateRefused(f"its lease is over: {lease.silence}")
        return lease

    def _age(self, boot_id: str, now: Reading) -> timedelta:
        """How much of it is gone."""
        if boot_id and boot_id == self.boot_id:
            if now.boot < self.seen.boot:
                raise CertificateRefused("the lease that was noted is of another boot of that name")
            return now.boot - self.lease.begun
        # What went on after the last note is not in it. A clock that comes back with the date of
        # that note must not win this time again with each boot.
        return self.seen.boot - self.lease.begun + max(now.wall - self.seen.wall, NOTED_EVERY)


def _digest(chain: CertificateChain) -> str:
    return sha256(chain.certificates[0]).hexdigest()
