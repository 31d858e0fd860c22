"""Blocking work that takes its time, or never comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

_T = TypeVar("_T")


class OneThread:
    """Asks a disk or a medium on a thread, for one thing at a time.

    So one that hangs keeps one thread, not one more for each look.
    """

    def __init__(self, patience: timedelta) -> None:
        self._patience_s = patience.total_seconds()
        # Held until the thread is back, however long nobody waits for it any more.
        self._thread = asyncio.Lock()

    async def run(self, call: Callable[[], _T]) -> _T:
        """What `call` returns.

        Raises:
            TimeoutError: it has not come back in time, or one before it never did.
        """
        async with asyncio.timeout(self._patience_s):
            # One after the other: what ends wakes who is next, and not all who wait.
            await self._thread.acquire()
            asked = asyncio.create_task(asyncio.to_thread(call))
            asked.add_done_callback(self._is_back)
            # It goes on, and is waited for the next time, if we stop waiting.
            await asyncio.wait([asked])
            return asked.result()

    def _is_back(self, asked: asyncio.Future[Any]) -> None:
        self._thread.release()
        # Nobody may be left to be told.
        if not asked.cancelled():
            asked.exception()
