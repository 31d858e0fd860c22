"""What comes of an end on command, and the disk that is to remember it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from sidecar.core.journal import Fact
from sidecar.identity.remains import Cleared
from sidecar.identity.snapshot import KeyGrant
from sidecar.identity.tombstones import StillValid, still_valid
from sidecar.one_thread import OneThread

_T = TypeVar("_T")
# A disk that hangs must not keep keys on the token.
_PATIENCE = timedelta(seconds=10)


@dataclass(frozen=True)
class Ended:
    """What was done, and what is left for others to do."""

    cleared: Cleared
    # Which nobody but their CA, or a deny list, can end before their time.
    certificates: tuple[StillValid, ...]
    # The file that keeps it so; empty: the end of this process forgets it.
    tombstone: str
    # What could not be done, for people; nothing: all was.
    problems: tuple[str, ...]


class Disk:
    """Asks the disk for one thing at a time, without blocking the event loop."""

    def __init__(self) -> None:
        self._thread = OneThread(_PATIENCE)

    async def run(self, work: Callable[[], _T]) -> _T:
        """What `work` returns.

        Raises:
            OSError: what it raises, or it does not come back.
        """
        try:
            return await self._thread.run(work)
        except TimeoutError as error:
            raise OSError("the disk does not answer") from error


def certificates_of(grants: Sequence[KeyGrant], now: datetime) -> tuple[StillValid, ...]:
    """All that have not expired."""
    return tuple(each for grant in grants for each in still_valid(grant, now))


def unexpired(certificates: Sequence[StillValid], now: datetime) -> tuple[StillValid, ...]:
    """Those of them that still have not."""
    return tuple(each for each in certificates if each.not_after > now)


def certificate_facts(certificates: Sequence[StillValid]) -> list[Fact]:
    """For the journal."""
    return [
        {"serial": each.serial, "issuer": each.issuer, "not_after": each.not_after.isoformat()}
        for each in certificates
    ]


def text_of(error: OSError) -> str:
    """What went wrong, without the name of the file."""
    return error.strerror or str(error)
