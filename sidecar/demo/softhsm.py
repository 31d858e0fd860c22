"""A SoftHSM2 store of its own, in a directory of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sidecar.token.softhsm2_util import configuration_text, initialise


@dataclass(frozen=True)
class SoftHsmStore:
    """Tokens below `directory`; `environment` points SoftHSM2 at them."""

    directory: Path

    @classmethod
    def create(cls, directory: Path) -> SoftHsmStore:
        """Makes an empty store in `directory`, which is created."""
        store = cls(directory)
        store.tokens.mkdir(parents=True, mode=0o700)
        store.configuration.write_text(configuration_text(store.tokens), encoding="utf-8")
        return store

    @property
    def tokens(self) -> Path:
        """Where SoftHSM2 keeps one directory a token."""
        return self.directory / "tokens"

    @property
    def configuration(self) -> Path:
        """The file that SOFTHSM2_CONF names."""
        return self.directory / "softhsm2.conf"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use this store; no secret."""
        return {"SOFTHSM2_CONF": str(self.configuration)}

    def initialise(self, label: str) -> Path:
        """Initialises a token with a random PIN; returns the file that holds the PIN.

        Raises:
            StartFailed: softhsm2-util refused, with what it said.
        """
        pin_file = self.directory / f"{label}.pin"
        initialise(self.environment, label, pin_file)
        return pin_file
