"""How a command ends: one line on standard error and an exit code that says what kind it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

import click

from sidecar.errors import (
    AuditUnreadable,
    ConfigurationError,
    DenyListRefused,
    InputMissing,
    KeyRefused,
    LoginRefused,
    MechanismMissing,
    MeshkeyError,
    NoSuchKey,
)

# sysexits.h: EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE, EX_NOPERM and EX_CONFIG.
EXIT_CONFIGURATION = 64
EXIT_BAD_INPUT = 65
EXIT_NO_INPUT = 66
EXIT_FAILED = 69
EXIT_LOGIN_REFUSED = 77
EXIT_MECHANISM_MISSING = 78

# All there are, in the words of the README.
EXIT_CODES: Mapping[int, str] = {
    0: "done; `serve`: stopped by SIGTERM or SIGINT",
    1: "not done: you did not confirm it, or the demo failed",
    2: "the command line is wrong",
    EXIT_CONFIGURATION: "a setting is wrong, or needs a restart, "
    "or the PKCS#11 module that it names is none",
    EXIT_BAD_INPUT: "what was given is no private key of a supported kind, "
    "or its passphrase is wrong; or an audit log has a bad record, or a deny list is none",
    EXIT_NO_INPUT: "there is no such key, or no such file",
    EXIT_FAILED: "unavailable: the token, another process, or the start failed;"
    " or a check found errors",
    EXIT_LOGIN_REFUSED: "the PIN is wrong or locked; not worth a restart",
    EXIT_MECHANISM_MISSING: "the token lacks a mechanism that the key needs",
}

# First match wins; everything else that meshkey reports is `EXIT_FAILED`.
_CODES: tuple[tuple[type[MeshkeyError], int], ...] = (
    (ConfigurationError, EXIT_CONFIGURATION),
    (KeyRefused, EXIT_BAD_INPUT),
    (AuditUnreadable, EXIT_BAD_INPUT),
    (DenyListRefused, EXIT_BAD_INPUT),
    (InputMissing, EXIT_NO_INPUT),
    (NoSuchKey, EXIT_NO_INPUT),
    (LoginRefused, EXIT_LOGIN_REFUSED),
    (MechanismMissing, EXIT_MECHANISM_MISSING),
)

_F = TypeVar("_F", bound=Callable[..., Any])


def exit_code_of(error: MeshkeyError) -> int:
    """The exit code for `error`, by its type."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), EXIT_FAILED)


def one_line_errors(command: _F) -> _F:
    """Turns an error of ours into one line on standard error and its exit code."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except MeshkeyError as error:
            click.echo(f"meshkey: {error}", err=True)
            sys.exit(exit_code_of(error))

    return wrapped  # type: ignore[return-value]
