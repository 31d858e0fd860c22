"""Puts the Envoy module where the proxy's container finds it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from sidecar import whole_file
from sidecar.errors import InputMissing, StartFailed

NAME = "libmeshkey.so"
# Far above what it has.
_MOST_BYTES = 256 << 20
# Everybody may load it, and nobody write it, its owner included.
_MODE = 0o444


def beside_program() -> Path:
    """Where the image has it: below the prefix that this program is installed in."""
    return Path(sys.prefix, "lib", NAME)


def install(source: Path, directory: Path) -> str:
    """Copies the module into `directory`, and reads it back; returns its SHA-256. Blocks.

    At every moment there is none, the old one or the new one as a whole: a proxy that has loaded
    the old one goes on with it.

    Raises:
        InputMissing: there is no module at `source`, or it cannot be read.
        StartFailed: it cannot be written, or what is there then is something else.
    """
    target = directory / NAME
    content = _read(source)
    try:
        whole_file.replace(target, content, _MODE)
        whole_file.sync(directory)
        written = whole_file.read(target, _MOST_BYTES, follow=False)
    except OSError as error:
        raise StartFailed(f"{target} cannot be written: {error.strerror}") from error
    if _digest(written) != (digest := _digest(content)):
        raise StartFailed(f"{target} is not what was written there; use another volume")
    return digest


def _read(source: Path) -> bytes:
    try:
        content = whole_file.read(source, _MOST_BYTES)
    except OSError as error:
        raise InputMissing(
            f"Envoy module {source}: {error.strerror}; name it with --module"
        ) from error
    if not 0 < len(content) <= _MOST_BYTES:
        raise InputMissing(f"{source} is no Envoy module: it has {len(content)} bytes")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
