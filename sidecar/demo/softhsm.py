"""A SoftHSM2 store of its own, in a directory of its own."""

from __future__ import annotations

import os
import pty
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sidecar.errors import StartFailed


@dataclass(frozen=True)
class SoftHsmStore:
    """Tokens below `directory`; `environment` points SoftHSM2 at them."""

    directory: Path

    @classmethod
    def create(cls, directory: Path) -> SoftHsmStore:
        """Makes an empty store in `directory`, which is created."""
        store = cls(directory)
        store.tokens.mkdir(parents=True, mode=0o700)
        store.configuration.write_text(
            f"directories.tokendir = {store.tokens}\n"
            "objectstore.backend = file\n"
            "log.level = ERROR\n",
            encoding="utf-8",
        )
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
        pin = secrets.token_hex(16)
        with os.fdopen(os.open(pin_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
            file.write(pin)
        _init_token(self.environment, label, so_pin=secrets.token_hex(16), pin=pin)
        return pin_file


def _init_token(environment: dict[str, str], label: str, so_pin: str, pin: str) -> None:
    # softhsm2-util takes PINs as arguments, where every user of the machine can read them, or
    # from a terminal: so it gets a terminal. It asks for each PIN twice.
    terminal, its_side = pty.openpty()
    with os.fdopen(terminal, "wb", buffering=0) as keyboard:
        try:
            process = subprocess.Popen(
                ["softhsm2-util", "--init-token", "--free", "--label", label],  # noqa: S607
                env={**os.environ, **environment},
                stdin=its_side,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except FileNotFoundError as error:
            raise StartFailed("there is no softhsm2-util; install softhsm2") from error
        finally:
            os.close(its_side)
        keyboard.write(f"{so_pin}\n{so_pin}\n{pin}\n{pin}\n".encode())
        output, _ = process.communicate(timeout=30)
    if process.returncode:
        raise StartFailed(f"softhsm2-util: {output.decode(errors='replace').strip()}")
