"""The disk with an identity's files, which may be slow, full or gone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from sidecar.errors import MeshkeyError
from sidecar.one_thread import OneThread

_T = TypeVar("_T")
# A disk that hangs must not hold up a renewal.
_PATIENCE = timedelta(seconds=10)
_HANGS = "the disk does not answer"


class Disk:
    """Does one thing at a time, on a thread."""

    def __init__(self) -> None:
        self._thread = OneThread(_PATIENCE)

    async def run(self, work: Callable[[], _T]) -> _T:
        """What `work` returns.

        Raises:
            TimeoutError: it has not come back in time, or what came before it never did.
        """
        try:
            return await self._thread.run(work)
        except TimeoutError as error:
            raise TimeoutError(_HANGS) from error


def facts_of(error: Exception) -> dict[str, Any]:
    """What a log says of a failure: with a traceback if it is a bug."""
    known = isinstance(error, MeshkeyError | OSError)
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    return {"error": text, "exc_info": None if known else error}
