"""When to renew a certificate."""

from __future__ import annotations

from datetime import datetime, timedelta

_FRACTION = 0.5
_SOONEST = timedelta(seconds=1)


def renewal_due(obtained: datetime, not_after: datetime) -> datetime:
    """The moment at half of what was left of the lifetime when it was `obtained`.

    Counted from there because CAs backdate not_before: half of a short lifetime could
    lie in the past and would storm the CA. Never sooner than a second after `obtained`.
    """
    return obtained + max((not_after - obtained) * _FRACTION, _SOONEST)


def retry_delay(failures: int, random: float) -> timedelta:
    """How long to wait after the `failures`-th failure in a row (counted from 1).

    Doubles from 0.5 s to 30 s; `random` in [0, 1) takes up to a quarter off, so that
    sidecars that lost their CA together do not come back together.
    """
    delay = min(0.5 * 2.0 ** min(failures - 1, 16), 30.0)
    return timedelta(seconds=delay * (1.0 - 0.25 * random))
