"""Private keys and passphrases in files, or on standard input."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import click

from sidecar.core.private_key import PrivateKey, parse_private_key
from sidecar.errors import InputMissing, KeyRefused, PassphraseMissing

STANDARD_INPUT = "-"
# An RSA-4096 key has 3 KB as PEM; what is much longer is something else.
_LONGEST = 65536
_OTHERS_READ = 0o044


def read_private_key(name: str, passphrase_file: Path | None) -> PrivateKey:
    """Reads the key in the file `name`; asks at the terminal for a passphrase that is missing.

    Nothing of it is written anywhere.

    Raises:
        InputMissing: a file cannot be read.
        KeyRefused: it is no private key of a kind that is used, or the passphrase is wrong.
    """
    content = _read(name)
    passphrase = _passphrase(passphrase_file) if passphrase_file else None
    try:
        return parse_private_key(content, passphrase)
    except PassphraseMissing:
        # Not where the terminal's line would be taken for the key, or the key for the line.
        if passphrase is not None or name == STANDARD_INPUT or not sys.stdin.isatty():
            raise
    entered = click.prompt("Passphrase of the private key", hide_input=True, err=True)
    return parse_private_key(content, entered.encode())


def _passphrase(file: Path) -> bytes:
    first_line = _read(str(file)).partition(b"\n")[0].rstrip(b"\r")
    if not first_line:
        raise KeyRefused(f"passphrase file {file} is empty")
    return first_line


def _read(name: str) -> bytes:
    if name == STANDARD_INPUT:
        return _bounded(sys.stdin.buffer.read(_LONGEST + 1), "standard input")
    try:
        # A pipe is as good as a file: some tools hand keys over that way.
        with Path(name).open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_mode & _OTHERS_READ:
                click.echo(f"meshkey: warning: others can read {name}; chmod 0400 it", err=True)
            return _bounded(file.read(_LONGEST + 1), name)
    except OSError as error:
        raise InputMissing(f"{name}: {error.strerror}; name the file, or - for input") from error


def _bounded(content: bytes, name: str) -> bytes:
    if len(content) > _LONGEST:
        raise KeyRefused(f"{name} is too long for a private key")
    return content
