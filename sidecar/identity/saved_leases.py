"""How far leases have run, on disk: a restart goes on with them and begins none anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from sidecar.core.checked_text import DAMAGED, content_of, encoded
from sidecar.core.lease import Lease, LeaseNote, Reading, Standing
from sidecar.identity.checked_file import CheckedFiles, reason_of

log = structlog.get_logger(__name__)

_MICROSECOND = timedelta(microseconds=1)


class SavedLeases:
    """One small file for each identity beside its certificate. Every method blocks."""

    def __init__(self, directory: Path) -> None:
        """Makes `directory` if it is not there.

        Raises:
            ConfigurationError: it cannot be made, is not ours, or is open to others.
        """
        self._files = CheckedFiles(directory, "lease")

    def load(self, name: str) -> LeaseNote | None:
        """The last note of the identity's lease; `None` if there is none.

        So it is if the file is torn, changed, or of another version, which is logged.
        """
        path = self._files.path(name)
        try:
            return _decoded(self._files.read(name))
        except FileNotFoundError:
            return None
        except (OSError, *DAMAGED) as error:
            log.warning("lease unreadable", identity=name, file=str(path), error=reason_of(error))
            return None

    def save(self, name: str, note: LeaseNote) -> None:
        """Replaces the note, durably: after a crash there is the old or the new.

        Raises:
            OSError: it cannot be written; the old one is still there.
        """
        self._files.replace(name, _encoded(note))

    def remove(self, name: str) -> None:
        """There is no note any more, durably.

        Raises:
            OSError: it cannot be removed.
        """
        self._files.remove(name)


def _encoded(note: LeaseNote) -> bytes:
    lease = note.lease
    return encoded(
        {
            "certificate": lease.certificate,
            "answered": _date(lease.answered),
            # Microseconds on the boot clock.
            "begun": lease.begun // _MICROSECOND,
            "length": lease.length // _MICROSECOND,
            "grace": lease.grace // _MICROSECOND,
            "standing": lease.standing.value,
            "boot_id": note.boot_id,
            "seen": {"wall": _date(note.seen.wall), "boot": note.seen.boot // _MICROSECOND},
            "mark": _date(note.mark),
        }
    )


def _decoded(raw: bytes) -> LeaseNote:
    content = content_of(raw)
    note = LeaseNote(
        lease=Lease(
            certificate=content["certificate"],
            answered=datetime.fromisoformat(content["answered"]),
            begun=_time(content["begun"]),
            length=_time(content["length"]),
            grace=_time(content["grace"]),
            standing=Standing(content["standing"]),
        ),
        boot_id=content["boot_id"],
        seen=Reading(
            wall=datetime.fromisoformat(content["seen"]["wall"]),
            boot=_time(content["seen"]["boot"]),
        ),
        mark=datetime.fromisoformat(content["mark"]),
    )
    # Version, digest, and that there is nothing else in the file: all at once.
    if _encoded(note) != raw:
        raise ValueError("this is not what was written")
    return note


def _date(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _time(microseconds: int) -> timedelta:
    return timedelta(microseconds=microseconds)
