"""The tokens that are measured: each can be taken away and brought back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sidecar.demo.softhsm import SoftHsmStore
from tests.fixtures.p11kit import remote_store
from tests.fixtures.swtpm import MessageBus, tpm_store

SOFTHSM2 = Path("/usr/lib/softhsm/libsofthsm2.so")
TOKENS = ("softhsm2", "tpm2", "p11-kit")


class Store(Protocol):
    """What a process needs to use a token, and the token's whereabouts."""

    @property
    def label(self) -> str: ...

    @property
    def module(self) -> Path: ...

    @property
    def pin_file(self) -> Path: ...

    @property
    def environment(self) -> dict[str, str]: ...

    def start(self) -> None:
        """Brings back what `stop` took away."""

    def stop(self) -> None:
        """Takes the token away."""


class LocalStore:
    """SoftHSM2's files; taken away by giving them another name."""

    label = "mesh"

    def __init__(self, directory: Path, module: Path = SOFTHSM2, **environment: str) -> None:
        self.module = module
        self._store = SoftHsmStore.create(directory)
        self._away = directory / "away"
        self._environment = environment
        self.pin_file = self._store.initialise(self.label)

    @property
    def environment(self) -> dict[str, str]:
        return {**self._store.environment, **self._environment}

    def start(self) -> None:
        self._away.rename(self._store.tokens)

    def stop(self) -> None:
        self._store.tokens.rename(self._away)


@contextmanager
def running(token: str, directory: Path) -> Iterator[Store]:
    """A fresh token of one kind, in `directory`."""
    match token:
        case "softhsm2":
            yield LocalStore(directory)
        case "tpm2":
            # Apart from what is taken away: a process connects to a bus once, and for good.
            bus = MessageBus(directory.parent)
            with bus.running(), tpm_store(directory, bus) as tpm:
                yield tpm
        case _:
            with remote_store(directory) as remote:
                yield remote
