"""Several authorities, asked in order, each behind a circuit breaker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import TypeVar

import structlog

from sidecar.ca.base import CertificateAuthority
from sidecar.core.breaker import Breaker
from sidecar.core.histogram import Histogram
from sidecar.errors import AuthorityError, AuthorityUnavailable, CertificateRefused, MeshkeyError

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
# Up to a CA that asks a person, or a queue, first.
_REQUEST_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Result(Enum):
    """What becomes of a request to a CA."""

    ISSUED = "issued"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    # It answered with something that is not what was asked for.
    UNACCEPTABLE = "unacceptable"


class GuardedAuthority:
    """One authority, with its name and what became of the last requests to it.

    Identities that ask the same authority share this. Use it from the event loop only.
    """

    def __init__(
        self, name: str, authority: CertificateAuthority, steady: Callable[[], timedelta]
    ) -> None:
        self.name = name
        # How many requests had which result, for metrics.
        self.results: Counter[Result] = Counter()
        # How long it took to answer, or not to.
        self.times = Histogram(_REQUEST_S)
        self._authority = authority
        self._steady = steady
        self._breaker = Breaker()
        self._last_failure = ""

    async def obtain(
        self, csr: bytes, lifetime: timedelta, accept: Callable[[Sequence[bytes]], _T]
    ) -> _T:
        """What `accept` makes of the answer.

        Raises:
            AuthorityUnavailable: no answer, or too many failures before, so nobody asks.
            AuthorityError: the authority refused.
            CertificateRefused: `accept` did.
        """
        if refusal := self.left_alone():
            raise refusal
        self._breaker = self._breaker.attempted(self._steady())
        try:
            answer = accept(await self._sign(csr, lifetime))
        except AuthorityUnavailable as error:
            self._fail(error)
            raise
        except CertificateRefused:
            # What one identity cannot use says nothing about what the others will get.
            self._end(Result.UNACCEPTABLE)
            raise
        except AuthorityError:
            # It is there and said no: that is no reason to leave it alone.
            self._end(Result.REFUSED)
            raise
        self._end(Result.ISSUED)
        return answer

    def left_alone(self) -> AuthorityUnavailable | None:
        """What `obtain` would raise now without asking anybody."""
        if not (wait := self._breaker.wait(self._steady())):
            return None
        return AuthorityUnavailable(
            f"{self._last_failure}; after {self._breaker.failures} failures {self.name} is "
            f"left alone for another {wait.total_seconds():.0f} s"
        )

    async def _sign(self, csr: bytes, lifetime: timedelta) -> Sequence[bytes]:
        asked = self._steady()
        try:
            return await self._authority.sign(csr, lifetime)
        finally:
            self.times.observe((self._steady() - asked).total_seconds())

    def _end(self, result: Result) -> None:
        self.results[result] += 1
        self._breaker = self._breaker.succeeded()

    def _fail(self, error: AuthorityUnavailable) -> None:
        self.results[Result.UNAVAILABLE] += 1
        self._last_failure = str(error)
        self._breaker = self._breaker.failed(self._steady())
        if wait := self._breaker.wait(self._steady()):
            log.warning("CA left alone", ca=self.name, for_s=wait.total_seconds())


class Failover:
    """The authorities of one identity, best first."""

    def __init__(self, authorities: Sequence[GuardedAuthority]) -> None:
        self._authorities = authorities

    def require_any(self) -> None:
        """Raises `AuthorityUnavailable` while every authority is left alone."""
        refusals = {each.name: each.left_alone() for each in self._authorities}
        failures = {name: refusal for name, refusal in refusals.items() if refusal}
        if len(failures) == len(refusals):
            raise _together(failures)

    async def obtain(
        self, csr: bytes, lifetime: timedelta, accept: Callable[[Sequence[bytes]], _T]
    ) -> tuple[str, _T]:
        """The name of the first authority with an acceptable answer, and what `accept` made of it.

        Raises:
            MeshkeyError: what the only authority raised. Of several: `AuthorityUnavailable`
                if one of them may answer later, `AuthorityError` otherwise.
        """
        failures: dict[str, MeshkeyError] = {}
        for authority in self._authorities:
            try:
                return authority.name, await authority.obtain(csr, lifetime, accept)
            except (AuthorityError, CertificateRefused) as error:
                failures[authority.name] = error
                if len(self._authorities) > 1:
                    log.warning("CA did not help", ca=authority.name, error=str(error))
        raise _together(failures)


def _together(failures: Mapping[str, MeshkeyError]) -> MeshkeyError:
    if len(failures) == 1:
        ((name, error),) = failures.items()
        # What an authority raises names it already.
        return (
            error if isinstance(error, AuthorityError) else CertificateRefused(f"{name}: {error}")
        )
    later = any(isinstance(error, AuthorityUnavailable) for error in failures.values())
    kind = AuthorityUnavailable if later else AuthorityError
    return kind("; ".join(f"{name}: {error}" for name, error in failures.items()))
