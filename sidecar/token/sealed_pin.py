"""A PIN that only this machine's TPM can unseal.

The blob is a keyed-hash object (TPM 2.0 Library, Part 1, section 27.6.2) below the primary
key that `tpm2_createprimary` makes in the owner hierarchy from its default ECC template: the
TPM derives the same key each time, so nothing is kept in it. Copied to another machine, the
blob is useless. It has no policy of its own: who may use this TPM can unseal it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sidecar.errors import ConfigurationError, StartFailed
from sidecar.token.pin import Pin

_TOOL_TIMEOUT_S = 60
# What they need to run at all, and to find the TPM, also behind tpm2-abrmd.
_TOLD = frozenset(
    {
        "DBUS_SESSION_BUS_ADDRESS",
        "DBUS_SYSTEM_BUS_ADDRESS",
        "HOME",
        "LD_LIBRARY_PATH",
        "PATH",
    }
)
_TOLD_TOO = ("TPM2TOOLS_", "TSS2_")
# Bound to this TPM and this primary key, without a password, and so outside the TPM's
# protection against guessing, which would refuse to unseal when others guess passwords.
_ATTRIBUTES = "fixedtpm|fixedparent|noda|userwithauth"


@dataclass(frozen=True)
class SealedPin:
    """The PIN in `<prefix>.pub` and `<prefix>.priv`."""

    prefix: Path
    starts_processes = True

    @property
    def name(self) -> str:
        return f"token.pin_sealed {self.prefix}"

    @property
    def files(self) -> Sequence[Path]:
        return (_public(self.prefix), _private(self.prefix))

    def require(self) -> None:
        """Looks whether the blob is there.

        Raises:
            ConfigurationError: it is not.
        """
        for file in self.files:
            if not file.is_file():
                raise ConfigurationError(f"{self.name}: there is no {file}")

    def read(self) -> Pin:
        """Unseals with tpm2-tools, which find the TPM as TPM2TOOLS_TCTI says.

        Raises:
            ConfigurationError: the blob or the tools are not there.
            StartFailed: the TPM refused, with its words.
        """
        self.require()
        with _primary_key() as primary:
            sealed = primary.with_name("sealed")
            # fmt: off
            _tpm2("load", "-C", primary, "-u", _public(self.prefix),
                  "-r", _private(self.prefix), "-c", sealed)
            # fmt: on
            return Pin.first_line(_tpm2("unseal", "-c", sealed), self.name)


def seal(pin: Pin, prefix: Path) -> None:
    """Writes `<prefix>.pub` and `<prefix>.priv`, and unseals them once to be sure.

    Raises:
        ConfigurationError: there is such a file already, or the tools are not there.
        StartFailed: the TPM refused, with its words.
    """
    sealed = SealedPin(prefix)
    for file in sealed.files:
        if file.exists():
            raise ConfigurationError(f"{file} is there already; move it away")
    with _primary_key() as primary:
        new = primary.with_name("new")
        # fmt: off
        _tpm2("create", "-C", primary, "-a", _ATTRIBUTES, "-i", "-",
              "-u", _public(new), "-r", _private(new), stdin=pin.value.encode())
        # fmt: on
        for made, file in zip(SealedPin(new).files, sealed.files, strict=True):
            _write(file, made.read_bytes())
    if sealed.read() != pin:
        raise StartFailed(f"{sealed.name}: the TPM unsealed something else")


def _public(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.pub")


def _private(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.priv")


@contextmanager
def _primary_key() -> Iterator[Path]:
    """The context of the owner hierarchy's primary key, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="meshkey-tpm-") as directory:
        primary = Path(directory, "primary")
        _tpm2("createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", primary)
        yield primary


def _tpm2(tool: str, *arguments: str | Path, stdin: bytes = b"") -> bytes:
    """Runs one of tpm2-tools; returns its standard output."""
    process = _run(tool, *arguments, stdin=stdin)
    if process.returncode:
        raise StartFailed(
            f"tpm2_{tool} failed: {_reason(process.stderr)}; "
            "the blob opens only with the TPM that sealed it, which TPM2TOOLS_TCTI names"
        )
    # A TPM without a resource manager keeps what a tool loaded, and has room for three.
    _run("flushcontext", "--transient-object")
    return process.stdout


def _run(
    tool: str, *arguments: str | Path, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603  # fixed programs; no PIN among the arguments
            [f"tpm2_{tool}", *arguments],
            input=stdin,
            capture_output=True,
            timeout=_TOOL_TIMEOUT_S,
            check=False,
            env=_environment(),
        )
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no tpm2_{tool}: install tpm2-tools, or use token.pin_file"
        ) from None
    except subprocess.TimeoutExpired:
        # Not the error itself: it holds what was read.
        raise StartFailed(f"tpm2_{tool} did not end within {_TOOL_TIMEOUT_S} s") from None


def _environment() -> dict[str, str]:
    """What the tools are told, and nothing else that this process was."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _TOLD or name.startswith(_TOLD_TOO)
    }


def _reason(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").splitlines()
    # What begins otherwise is the library's account of the same.
    said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (said or lines or ["it gave no reason"])[0]


def _write(file: Path, content: bytes) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
