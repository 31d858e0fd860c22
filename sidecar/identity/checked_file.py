"""Small files of our own, one a name, with a text of `core.checked_text` each."""

from __future__ import annotations

import re
from pathlib import Path

from sidecar import whole_file
from sidecar.private_directory import require_private

_MOST_BYTES = 1 << 18
# No separator, no dot in front: the name of an identity is a part of a file's name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class CheckedFiles:
    """Files with one ending in a directory that is ours alone. Every method blocks."""

    def __init__(self, directory: Path, ending: str) -> None:
        """Makes `directory` if it is not there.

        Raises:
            ConfigurationError: it cannot be made, is not ours, or is open to others.
        """
        require_private(directory, "certificate store")
        self._directory = directory
        self._ending = ending

    def path(self, name: str) -> Path:
        """Raises `ValueError` for what cannot be a part of a file's name."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a file's name")
        return self._directory / f"{name}.{self._ending}"

    def read(self, name: str) -> bytes:
        """Raises `OSError`, or `ValueError` for a file that is none of ours."""
        content = whole_file.read(self.path(name), _MOST_BYTES, follow=False)
        if len(content) > _MOST_BYTES:
            raise ValueError("too large")
        return content

    def replace(self, name: str, content: bytes) -> None:
        """Durable when it returns: after a crash there is the old or the new.

        Raises:
            OSError: it cannot be written; the old one is still there.
        """
        whole_file.replace(self.path(name), content, 0o600)
        whole_file.sync(self._directory)

    def remove(self, name: str) -> None:
        """There is no such file any more, durably.

        Raises:
            OSError: it cannot be removed.
        """
        self.path(name).unlink(missing_ok=True)
        whole_file.sync(self._directory)


def reason_of(error: Exception) -> str:
    """What to say of a file whose reading raised `error`."""
    return (isinstance(error, OSError) and error.strerror) or "torn, changed or foreign"
