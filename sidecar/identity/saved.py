"""Certificates on disk, so that a restart need not ask the CA.

Nothing in here is secret, and nothing is trusted when it is read back: whoever takes it up
verifies it anew, against roots that never come from here.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from sidecar.core.checked_text import DAMAGED, content_of, encoded
from sidecar.identity.checked_file import CheckedFiles, reason_of
from sidecar.token.base import KeyId

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SavedIdentity:
    """A certificate, and which key on the token it is for."""

    key_id: KeyId
    # DER, leaf first, without the root.
    chain: tuple[bytes, ...]
    # With a time zone.
    obtained: datetime


class SavedCertificates:
    """One small file for each identity in a directory of our own. Every method blocks."""

    def __init__(self, directory: Path) -> None:
        """Makes `directory` if it is not there.

        Raises:
            ConfigurationError: it cannot be made, is not ours, or is open to others.
        """
        self._files = CheckedFiles(directory, "json")

    def load(self, name: str) -> SavedIdentity | None:
        """What was saved for the identity; `None` if nothing was.

        So it is if the file is torn, changed, or of another version, which is logged; the
        next `save` replaces it.
        """
        path = self._files.path(name)
        try:
            return _decoded(self._files.read(name))
        except FileNotFoundError:
            return None
        except (OSError, *DAMAGED) as error:
            log.warning(
                "saved certificate unreadable",
                identity=name,
                file=str(path),
                error=reason_of(error),
            )
            return None

    def save(self, name: str, saved: SavedIdentity) -> None:
        """Replaces what was saved, durably: after a crash there is the old or the new.

        Raises:
            OSError: it cannot be written; the old one is still there.
        """
        self._files.replace(name, _encoded(saved))

    def remove(self, name: str) -> None:
        """Nothing is saved for the identity any more, durably.

        Raises:
            OSError: it cannot be removed.
        """
        self._files.remove(name)


def _encoded(saved: SavedIdentity) -> bytes:
    return encoded(
        {
            "key_id": str(saved.key_id),
            "chain": [base64.b64encode(der).decode() for der in saved.chain],
            "obtained": saved.obtained.astimezone(UTC).isoformat(),
        }
    )


def _decoded(raw: bytes) -> SavedIdentity:
    content = content_of(raw)
    saved = SavedIdentity(
        key_id=KeyId(bytes.fromhex(content["key_id"])),
        chain=tuple(base64.b64decode(der, validate=True) for der in content["chain"]),
        obtained=datetime.fromisoformat(content["obtained"]),
    )
    # Version, digest, and that there is nothing else in the file: all at once.
    if _encoded(saved) != raw:
        raise ValueError("this is not what was written")
    return saved
