"""Where the PIN comes from: the first of a few places that there is."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from sidecar.config.settings import TokenSettings
from sidecar.config.token import PIN_VARIABLE
from sidecar.token.pin import Pin, require_pin_file
from sidecar.token.sealed_pin import SealedPin

log = structlog.get_logger(__name__)

# Set by systemd for LoadCredential= and SetCredentialEncrypted= (systemd.exec(5)).
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
# systemd lets the service's user read its credentials through an ACL, whose mask shows as
# the group's bits; the directory is what keeps others out.
_CREDENTIAL_CLOSED_TO = 0o037


class PinSource(Protocol):
    """A place to read the PIN from."""

    @property
    def name(self) -> str:
        """The place, for messages."""
        ...

    @property
    def files(self) -> Sequence[Path]:
        """What changes when the PIN there changes; nothing if that cannot be seen."""
        ...

    @property
    def starts_processes(self) -> bool:
        """Whether `read` does: then it is called before the PKCS#11 module is started."""
        ...

    def require(self) -> None:
        """Looks whether it can be read, without reading it. Raises what `read` raises."""
        ...

    def read(self) -> Pin:
        """Reads the PIN. May block.

        Raises:
            ConfigurationError: it cannot be read, with what to do.
        """
        ...


@dataclass(frozen=True)
class PinFile:
    """A file that only its reader may open."""

    path: Path
    setting: str = "token.pin_file"
    closed_to: int = 0o077
    starts_processes = False

    @property
    def name(self) -> str:
        return f"{self.setting} {self.path}"

    @property
    def files(self) -> Sequence[Path]:
        return (self.path,)

    def require(self) -> None:
        require_pin_file(self.path, self.closed_to)

    def read(self) -> Pin:
        return Pin.read(self.path, self.closed_to)


@dataclass(frozen=True)
class GivenPin:
    """A PIN that this process was given as it stands: for development."""

    name: str
    pin: Pin
    files = ()
    starts_processes = False

    def require(self) -> None:
        """It is here."""

    def read(self) -> Pin:
        return self.pin


def pin_source(settings: TokenSettings, environment: MutableMapping[str, str]) -> PinSource | None:
    """The source that comes first: a credential of systemd, a file, a sealed PIN, a given one.

    A PIN in `environment` is removed from it, used or not. `None` is right for a token that
    its holder logs into by other means (CKF_PROTECTED_AUTHENTICATION_PATH).
    """
    from_environment = environment.pop(PIN_VARIABLE, None)
    credential = _credential(settings.selector.label, environment.get(CREDENTIALS_VARIABLE))
    if credential:
        return credential
    if settings.pin_file:
        return PinFile(settings.pin_file)
    if settings.pin_sealed:
        return SealedPin(settings.pin_sealed)
    if settings.uri and settings.uri.pin_value:
        return _given("token.uri pin-value", settings.uri.pin_value)
    if from_environment:
        return _given(PIN_VARIABLE, from_environment)
    return None


def no_source(label: str) -> str:
    """What to say when a token needs a PIN and there is none."""
    return (
        f"no PIN for token {label!r}: set token.pin_file or token.pin_sealed, "
        f"or pass meshkey.{label}.pin as a credential of systemd"
    )


def _credential(label: str | None, directory: str | None) -> PinFile | None:
    # A label of several path components would lead out of the directory.
    if not label or not directory or "/" in label or "\0" in label:
        return None
    path = Path(directory, f"meshkey.{label}.pin")
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # it is there and cannot be read: who reads it says why
    return PinFile(path, "credential", _CREDENTIAL_CLOSED_TO)


def _given(name: str, value: str) -> GivenPin:
    log.warning("PIN given in plain text: for development only", source=name)
    # The environment's bytes need not be text; the error that shows them must not be reached.
    return GivenPin(name, Pin.first_line(value.encode(errors="surrogateescape"), name))
