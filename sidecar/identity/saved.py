"""Certificates on disk, so that a restart need not ask the CA.

Nothing in here is secret, and nothing is trusted when it is read back: whoever takes it up
verifies it anew, against roots that never come from here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from sidecar import whole_file
from sidecar.private_directory import require_private
from sidecar.token.base import KeyId

log = structlog.get_logger(__name__)

_FORMAT = 1
_MOST_BYTES = 1 << 18
# No separator, no dot in front: the name of an identity is a part of a file's name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# What reading a damaged file may raise.
_DAMAGED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


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
        require_private(directory, "certificate store")
        self._directory = directory

    def load(self, name: str) -> SavedIdentity | None:
        """What was saved for the identity; `None` if nothing was.

        So it is if the file is torn, changed, or of another version, which is logged; the
        next `save` replaces it.
        """
        path = self._path(name)
        try:
            return _decoded(_read(path))
        except FileNotFoundError:
            return None
        except (OSError, *_DAMAGED) as error:
            reason = error.strerror if isinstance(error, OSError) else "torn, changed or foreign"
            log.warning("saved certificate unreadable", identity=name, file=str(path), error=reason)
            return None

    def save(self, name: str, saved: SavedIdentity) -> None:
        """Replaces what was saved, durably: after a crash there is the old or the new.

        Raises:
            OSError: it cannot be written; the old one is still there.
        """
        whole_file.replace(self._path(name), _encoded(saved), 0o600)
        whole_file.sync(self._directory)

    def remove(self, name: str) -> None:
        """Nothing is saved for the identity any more, durably.

        Raises:
            OSError: it cannot be removed.
        """
        self._path(name).unlink(missing_ok=True)
        whole_file.sync(self._directory)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a file's name")
        return self._directory / f"{name}.json"


def _encoded(saved: SavedIdentity) -> bytes:
    content = {
        "key_id": str(saved.key_id),
        "chain": [base64.b64encode(der).decode() for der in saved.chain],
        "obtained": saved.obtained.astimezone(UTC).isoformat(),
    }
    digest = hashlib.sha256(_json(content)).hexdigest()
    return _json({"format": _FORMAT, "sha256": digest, "content": content}) + b"\n"


def _decoded(raw: bytes) -> SavedIdentity:
    content = json.loads(raw.decode("ascii"))["content"]
    saved = SavedIdentity(
        key_id=KeyId(bytes.fromhex(content["key_id"])),
        chain=tuple(base64.b64decode(der, validate=True) for der in content["chain"]),
        obtained=datetime.fromisoformat(content["obtained"]),
    )
    # Version, digest, and that there is nothing else in the file: all at once.
    if _encoded(saved) != raw:
        raise ValueError("this is not what was written")
    return saved


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _read(path: Path) -> bytes:
    content = whole_file.read(path, _MOST_BYTES, follow=False)
    if len(content) > _MOST_BYTES:
        raise ValueError("too large")
    return content
