"""What comes of an end on command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sidecar.core.journal import Fact
from sidecar.identity.remains import Cleared
from sidecar.identity.snapshot import KeyGrant
from sidecar.identity.tombstones import StillValid, still_valid


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
