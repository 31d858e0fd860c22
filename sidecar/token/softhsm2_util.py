"""Makes tokens of SoftHSM2 with its own tool, whose PINs nobody sees."""

from __future__ import annotations

import os
import pty
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sidecar.errors import StartFailed

_TIMEOUT_S = 30


def configuration_text(tokens: Path) -> str:
    """The softhsm2.conf of a store whose tokens are below `tokens`."""
    return f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"


def initialise(environment: Mapping[str, str], label: str, pin_file: Path) -> None:
    """Makes the token `label` with random PINs; the user's is in `pin_file`, mode 0400. Blocks.

    The security officer's is thrown away: nobody can set another user PIN. `environment` says
    where SoftHSM2's configuration is.

    Raises:
        StartFailed: softhsm2-util refused, with what it said.
        OSError: `pin_file` is there already, or cannot be written.
    """
    pin = secrets.token_hex(16)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(pin_file, flags, 0o400), "w", encoding="ascii") as file:
        file.write(pin)
        file.flush()
        os.fsync(file.fileno())
    init_token(environment, label, so_pin=secrets.token_hex(16), pin=pin)


def init_token(environment: Mapping[str, str], label: str, so_pin: str, pin: str) -> None:
    """The same with PINs of the caller's. Raises `StartFailed`."""
    # softhsm2-util takes PINs as arguments, where every user of the machine can read them, or
    # from a terminal: so it gets a terminal. It asks for each PIN twice.
    terminal, its_side = pty.openpty()
    with os.fdopen(terminal, "wb", buffering=0) as keyboard:
        try:
            process = subprocess.Popen(  # noqa: S603  # a fixed program; no PIN among the arguments
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
        output = _output(process)
    if process.returncode:
        raise StartFailed(f"softhsm2-util: {output.decode(errors='replace').strip()}")


def _output(process: subprocess.Popen[bytes]) -> bytes:
    try:
        return process.communicate(timeout=_TIMEOUT_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise StartFailed(f"softhsm2-util did not end within {_TIMEOUT_S} s") from None
