"""Everything that a pod's containers find in their volumes, made before they start.

A fresh emptyDir can be written by everybody, so nothing is put into it directly: a sidecar
refuses such a directory (`sidecar/separation`). What is made here are directories in it, which
the containers mount with `subPath`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sidecar import whole_file
from sidecar.errors import InputMissing, StartFailed
from sidecar.pod import module_file
from sidecar.pod.directory import make_own
from sidecar.token.pin import Pin
from sidecar.token.softhsm2_store import Softhsm2Store

_LONGEST_PIN_FILE = 4096


@dataclass(frozen=True)
class Volumes:
    """The volumes, each mounted as a whole below `root`."""

    root: Path

    @property
    def library(self) -> Path:
        """For the module; the proxy mounts it."""
        return self.root / "module" / "lib"

    @property
    def store(self) -> Path:
        """For token, PIN and state; the sidecar alone mounts it."""
        return self.root / "store" / "store"

    @property
    def directories(self) -> dict[Path, int]:
        """Every directory that is made, and its mode: what the group may enter, the proxy may."""
        return {
            self.root / "sockets" / "signer": 0o750,
            self.root / "sockets" / "admin": 0o700,
            self.root / "workload-socket" / "sds": 0o750,
            self.library: 0o750,
            self.store: 0o700,
        }


def prepare(
    volumes: Volumes, module: Path, softhsm2_label: str | None, pin: Path | None
) -> Iterator[str]:
    """Makes what is missing, and says each thing that it did. Blocks.

    Run again it changes nothing but to put the module and a given PIN there once more.
    `softhsm2_label` has a token made in the store; `pin` is a file whose PIN is copied there.

    Raises:
        ConfigurationError: a volume is not what it must be, or half a token is there.
        InputMissing: there is no such module, or no such PIN.
        StartFailed: something cannot be written.
    """
    for directory, mode in volumes.directories.items():
        make_own(directory, mode)
        yield f"{directory}: mode {mode:04o}"
    digest = module_file.install(module, volumes.library)
    yield f"{volumes.library / module_file.NAME}: sha256 {digest}"
    if softhsm2_label is not None:
        yield _token(Softhsm2Store(volumes.store, softhsm2_label))
    if pin is not None:
        yield _pin(pin, volumes.store / pin.name)


def _token(store: Softhsm2Store) -> str:
    if store.create():
        return f"{store.tokens}: made token {store.label!r}, its PIN is in {store.pin_file}"
    return f"{store.tokens}: token and PIN are there already"


def _pin(source: Path, target: Path) -> str:
    """A Secret's files are root's, and not to be read by the sidecar's user alone: hence a copy."""
    try:
        content = whole_file.read(source, _LONGEST_PIN_FILE)
    except OSError as error:
        raise InputMissing(f"PIN {source}: {error.strerror}") from error
    if len(content) > _LONGEST_PIN_FILE:
        raise InputMissing(f"PIN {source} has more than {_LONGEST_PIN_FILE} bytes: it is none")
    pin = Pin.first_line(content, f"PIN {source}")
    try:
        whole_file.replace(target, pin.value.encode(), 0o400)
        whole_file.sync(target.parent)
    except OSError as error:
        raise StartFailed(f"{target} cannot be written: {error.strerror}") from error
    return f"{target}: the PIN of {source}"
