"""The deny list of the highest sequence, on disk: what a restart must not fall behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sidecar import whole_file
from sidecar.core.checked_text import DAMAGED, content_of, encoded
from sidecar.core.deny_list import MOST_BYTES, DenyList
from sidecar.errors import DenyListUnavailable, StartFailed
from sidecar.private_directory import require_private

_NAME = "deny-list.kept"


@dataclass(frozen=True)
class Kept:
    """What was taken last."""

    sequence: int
    # Of the list, see `DenyList.digest`.
    digest: str
    # As it was signed: it is verified again before it is used.
    signed: bytes

    @classmethod
    def of(cls, deny_list: DenyList, signed: bytes) -> Kept:
        return cls(deny_list.sequence, deny_list.digest, signed)


class KeptFile:
    """One file in a directory of our own. Every method blocks."""

    def __init__(self, directory: Path) -> None:
        """Makes `directory` if it is not there.

        Raises:
            ConfigurationError: it cannot be made, is not ours, or is open to others.
        """
        require_private(directory, "deny_list.state")
        self._file = directory / _NAME

    def load(self) -> Kept | None:
        """`None` if nothing was ever kept.

        Raises:
            StartFailed: it cannot be read, or is not what was written. Which sequence was the
                highest is not known then, and any older list might be taken for the newest.
        """
        try:
            raw = whole_file.read(self._file, 2 * MOST_BYTES, follow=False)
            return _decoded(raw)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StartFailed(f"deny_list.state: {self._file}: {error.strerror}") from error
        except DAMAGED as error:
            raise StartFailed(
                f"deny_list.state: {self._file} is torn or changed, and with it the protection "
                "against older deny lists; put the newest list in place, then remove it"
            ) from error

    def save(self, kept: Kept) -> None:
        """Durable when it returns: after a crash there is the old or the new.

        Raises:
            DenyListUnavailable: it cannot be written; the old one is still there.
        """
        try:
            whole_file.replace(self._file, _encoded(kept), 0o600)
            whole_file.sync(self._file.parent)
        except OSError as error:
            raise DenyListUnavailable(
                f"deny_list.state: {self._file}: {error.strerror}; until its sequence can be "
                "kept, a new deny list is not taken"
            ) from error


def _encoded(kept: Kept) -> bytes:
    return encoded(
        {
            "sequence": kept.sequence,
            "digest": kept.digest,
            "signed": kept.signed.decode("ascii"),
        }
    )


def _decoded(raw: bytes) -> Kept:
    content = content_of(raw)
    kept = Kept(content["sequence"], content["digest"], content["signed"].encode("ascii"))
    # Version, digest, and that there is nothing else in the file: all at once.
    if _encoded(kept) != raw or not isinstance(kept.sequence, int):
        raise ValueError("this is not what was written")
    return kept
