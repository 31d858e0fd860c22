"""Asks a certificate authority again, a little later each time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import structlog

from sidecar.errors import AuthorityUnavailable

log = structlog.get_logger(__name__)

_Answer = TypeVar("_Answer")

# As Istio's agent does (pkg/security/retry.go): 100 ms to 1.6 s.
_RETRIES = 5
_FIRST_WAIT = 0.1
_JITTER = 0.1
# A part of the deadline for each attempt, so that one that hangs leaves time for another.
_ATTEMPTS_THAT_HANG = 2


@dataclass(frozen=True)
class Pacing:
    """Time and randomness, in seconds and from 0 to 1."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random


async def retried(
    attempt: Callable[[float], Awaitable[_Answer]], deadline: timedelta, pacing: Pacing
) -> _Answer:
    """The first answer of `attempt`, which is called with the seconds that it may take.

    Raises:
        AuthorityUnavailable: of the last attempt, when there were five more than one, or
            when the next would begin after `deadline`.
        Exception: whatever else an attempt raises, at once.
    """
    whole = deadline.total_seconds()
    ends = pacing.now() + whole
    for number in range(_RETRIES):
        try:
            return await attempt(_share(ends, whole, pacing))
        except AuthorityUnavailable as error:
            wait = _wait(number, pacing)
            if pacing.now() + wait >= ends:
                raise
            log.info("certificate authority is asked again", reason=str(error), wait_s=wait)
        await pacing.sleep(wait)
    return await attempt(_share(ends, whole, pacing))


def _share(ends: float, whole: float, pacing: Pacing) -> float:
    return max(0.0, min(ends - pacing.now(), whole / _ATTEMPTS_THAT_HANG))


def _wait(number: int, pacing: Pacing) -> float:
    jitter = _JITTER * (2 * pacing.random() - 1)
    return _FIRST_WAIT * float(2**number) * (1 + jitter)
