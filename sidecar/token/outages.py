"""Keys that the token is not there for, again and again: they are left alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from sidecar.core.breaker import Breaker
from sidecar.errors import TokenError, TokenUnavailable
from sidecar.token.base import KeyId

log = structlog.get_logger(__name__)

_SHORTEST = timedelta(seconds=0.1)
_LONGEST = timedelta(seconds=2)
# Nobody has asked with it for so long: it is not in use any more.
_FORGOTTEN = timedelta(minutes=1)


@dataclass
class _Outage:
    breaker: Breaker = Breaker(shortest=_SHORTEST, longest=_LONGEST)
    failure: str = ""
    failed: timedelta = timedelta(0)
    # What was let through to find out.
    probe: object = None


class Outages:
    """A circuit breaker for each key that fails. Use it from the event loop.

    After three requests in a row that got `TokenUnavailable`, those that follow get it at once
    instead of waiting for it, and one at a time finds out whether the token is back: after
    0.1 s, then after twice as long each time, 2 s at most. By key, because a token may fail
    with one and go on with the others; if it is gone, it soon fails with each.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Empty while all is well: then nobody needs to ask or tell anything. Read only.
        self.failing: dict[KeyId, _Outage] = {}

    def probes(self, key_id: KeyId) -> bool:
        """Whether a request may go to the token only to find out: then call `let_through`.

        Raises:
            TokenUnavailable: it may not, with why the token was not there when it was asked.
        """
        outage = self.failing.get(key_id)
        if outage is None or not outage.breaker.open_until:
            return False
        if outage.probe is None and not outage.breaker.wait(self._now()):
            return True
        raise TokenUnavailable(f"{outage.failure}; it is asked again soon, by one at a time")

    def let_through(self, key_id: KeyId, request: object) -> None:
        """`request` was sent to find out; nobody else is until it is answered."""
        self.failing[key_id].probe = request

    def answered(self, key_id: KeyId, request: object, error: BaseException | None) -> None:
        """What became of a request that the token was asked for, or could have been."""
        outage = self.failing.get(key_id)
        found_out = outage is not None and outage.probe is request
        if outage and found_out:
            outage.probe = None
        if isinstance(error, TokenUnavailable):
            # Once it is open, those that were on their way before say nothing new.
            if outage is None or found_out or not outage.breaker.open_until:
                self._fail(key_id, outage or self._begin(key_id), error)
        elif outage and (error is None or isinstance(error, TokenError)):
            del self.failing[key_id]
            if outage.breaker.open_until:
                log.info("token signs again", key_id=str(key_id))

    def _fail(self, key_id: KeyId, outage: _Outage, error: TokenUnavailable) -> None:
        before = outage.breaker
        outage.failure, outage.failed = str(error), self._now()
        outage.breaker = before.failed(outage.failed)
        if outage.breaker.open_until and not before.open_until:
            log.warning("token left alone", key_id=str(key_id), error=outage.failure)

    def _begin(self, key_id: KeyId) -> _Outage:
        long_ago = self._now() - _FORGOTTEN
        self.failing = {
            each: outage
            for each, outage in self.failing.items()
            if outage.probe or outage.failed > long_ago
        }
        return self.failing.setdefault(key_id, _Outage())

    def _now(self) -> timedelta:
        return timedelta(seconds=self._clock())
