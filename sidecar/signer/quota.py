"""How much each caller, and each key, may have signed in a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeAlias

import structlog

from sidecar.core.process import CallingProcess
from sidecar.core.token_bucket import Buckets, Rate
from sidecar.errors import OverRate
from sidecar.rpc.quiet import Quiet
from sidecar.token.base import KeyId
from sidecar.token.executor import Caller

log = structlog.get_logger(__name__)

# What `signer.caller_rate` and `signer.key_rate` are by default: more than one process makes.
_RATE = 20_000

# What tells processes apart; those that nobody can tell apart are one.
_Process: TypeAlias = tuple[int | None, int | None, datetime | None]


class Quota:
    """Counts requests by process, whatever connections it has, and signatures by key.

    One for the whole sidecar. Use it from the event loop.
    """

    def __init__(
        self,
        caller_rate: int = _RATE,
        key_rate: int = _RATE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._quiet = Quiet(clock)
        self._callers: Buckets[_Process] = Buckets(clock)
        self._keys: Buckets[bytes] = Buckets(clock)
        self.change(caller_rate, key_rate)

    def change(self, caller_rate: int, key_rate: int) -> None:
        """Other rates, in signatures per second, from the next request on."""
        self._caller_rate = Rate(caller_rate)
        self._key_rate = Rate(key_rate)

    @contextmanager
    def caller(self, process: CallingProcess) -> Iterator[Caller]:
        """A connection of `process`; at the end the caller is gone.

        It shares its rate, and its turns at the token, with the process's other connections,
        and with those that came before.
        """
        with self._callers.held((process.uid, process.pid, process.started)) as bucket:
            caller = Caller(process, bucket)
            try:
                yield caller
            finally:
                caller.gone = True

    def admit_caller(self, caller: Caller) -> None:
        """Counts one request, whatever becomes of it: to refuse costs, too.

        Raises:
            OverRate: the caller has asked for too many in the last second.
        """
        if caller.bucket.take(self._caller_rate, self._clock()):
            return
        if (suppressed := self._quiet.suppressed("caller")) is not None:
            log.warning(
                "caller over its rate",
                uid=caller.process.uid,
                pid=caller.process.pid,
                suppressed=suppressed,
            )
        raise OverRate(
            f"this process asks for more than {self._caller_rate.per_second} signatures a "
            "second; ask again later, or raise signer.caller_rate"
        )

    def admit_key(self, key_id: KeyId) -> None:
        """Counts one signature with a key that there is.

        Raises:
            OverRate: too many were asked for in the last second.
        """
        if self._keys.of(key_id.value).take(self._key_rate, self._clock()):
            return
        if (suppressed := self._quiet.suppressed("key")) is not None:
            log.warning("key over its rate", key_id=str(key_id), suppressed=suppressed)
        raise OverRate(
            f"more than {self._key_rate.per_second} signatures a second are asked for with "
            "this key; ask again later, or raise signer.key_rate"
        )
