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
        self._asked: asyncio.Future[Any] | None = None

    async def run(self, call: Callable[[], _T]) -> _T:
        """What `call` returns.

        Raises:
            TimeoutError: it has not come back in time, or one before it never did.
        """
        async with asyncio.timeout(self._patience_s):
            while self._asked and not self._asked.done():
                await asyncio.wait([self._asked])
            asked = asyncio.create_task(asyncio.to_thread(call))
            self._asked = asked
            asked.add_done_callback(_noticed)
            # It goes on, and is waited for the next time, if we stop waiting.
            await asyncio.wait([asked])
            return asked.result()


def _noticed(asked: asyncio.Future[Any]) -> None:
    """Nobody may be left to be told."""
    if not asked.cancelled():
        asked.exception()
