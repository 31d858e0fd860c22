"""Files that are written, and those that are left alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sidecar.errors import ConfigurationError
from sidecar.istio.document import MARKER, Copy, Document


def written(
    documents: Sequence[Document | Copy], out: Path, *, force: bool = False
) -> Iterator[Path]:
    """Writes them below `out`; yields each path when it is written.

    Raises:
        ConfigurationError: a file that is there was not written by this, and `force` is not
            given: then nothing has been written. Or one cannot be written.
    """
    texts = {out / document.path: document.text() for document in documents}
    if not force:
        for path, text in texts.items():
            _refuse_foreign(path, text)
    for path, text in texts.items():
        _write(path, text)
        yield path


def left_over(documents: Sequence[Document | Copy], out: Path) -> Sequence[Path]:
    """Files below `out` that other values made: nobody lists them, but somebody may apply them."""
    current = {out / document.path for document in documents}
    files = sorted(path for path in out.rglob("*.yaml") if path.is_file() and path not in current)
    return [path for path in files if MARKER in path.read_text(encoding="utf-8", errors="replace")]


def _refuse_foreign(path: Path, text: str) -> None:
    if not path.exists():
        return
    found = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if MARKER not in found and found != text:
        raise ConfigurationError(
            f"{path} is there and was not written by this command: choose another directory, "
            "or overwrite it with --force"
        )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
