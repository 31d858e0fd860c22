"""Logs into a token without ever trying a PIN into a lock."""

from __future__ import annotations

import pkcs11
import structlog
from pkcs11.constants import TokenFlag
from pkcs11.types import PROTECTED_AUTH

from sidecar.errors import ConfigurationError, LoginRefused, PinLocked, PinRefused
from sidecar.token.default_pins import is_default_pin
from sidecar.token.pin import Pin
from sidecar.token.pin_sources import PinSource, no_source
from sidecar.token.refusals import Refusals, fingerprint

log = structlog.get_logger(__name__)

_REFUSED = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinExpired)
# "Cancel" is an answer too.
_REFUSED_ON_KEYPAD = (*_REFUSED, pkcs11.FunctionCancelled, pkcs11.FunctionRejected)


class Login:
    """The way into one token, for as long as the process lives.

    A refused PIN is the last thing that is tried. Not for several threads at once.
    """

    def __init__(
        self,
        source: PinSource | None,
        refusals: Refusals | None = None,
        *,
        default_pins: bool = False,
    ) -> None:
        self._source = source
        self._refusals = refusals
        self._default_pins = default_pins
        self._pin: Pin | None = None
        # How the source looked when the PIN was read.
        self._seen: list[str] = []
        self._refusal: LoginRefused | None = None

    def prepare(self) -> None:
        """What must happen before the module is started; does not touch the token. May block.

        Raises:
            PinRefused: the token refused this PIN before.
            ConfigurationError: the PIN cannot be read.
        """
        if self._refusal is not None:
            # Raised again and again: without it the traceback would grow each time.
            raise self._refusal.with_traceback(None)
        if self._source is None or self._pin is not None:
            return
        if self._refusals:
            self._refusals.check(self._source)
        self._source.require()
        # Never fork once the module runs.
        if self._source.starts_processes:
            self._read(self._source)

    def open(self, token: pkcs11.Token) -> pkcs11.Session:
        """Opens the session that holds the login of the whole process.

        Raises:
            PinRefused: the PIN is wrong, or was refused before.
            PinLocked: the PIN is locked, or one more wrong try would lock it.
            ConfigurationError: there is no PIN to give.
            pkcs11.PKCS11Error: anything else that the token says.
        """
        flags = TokenFlag(token.flags)
        _check_flags(token.label, flags)
        keypad = bool(flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH)
        pin = PROTECTED_AUTH if keypad else self._pin_for(token.label).value
        try:
            session = token.open(rw=True, user_pin=pin)
        except pkcs11.PinLocked as error:
            self._refusal = PinLocked(_locked(token.label))
            raise self._refusal from error
        except _REFUSED_ON_KEYPAD as error:
            if not keypad and not isinstance(error, _REFUSED):
                raise
            self._refusal = self._refused(token.label, error, keypad=keypad)
            raise self._refusal from error
        if self._refusals:
            self._refusals.clear()
        return session

    def _pin_for(self, label: str) -> Pin:
        if self._pin is not None:
            return self._pin
        if self._source is None:
            raise ConfigurationError(no_source(label))
        return self._read(self._source)

    def _read(self, source: PinSource) -> Pin:
        self._seen = fingerprint(source)
        pin = source.read()
        if not self._default_pins and is_default_pin(pin.value):
            raise ConfigurationError(
                f"{source.name} holds a PIN that everybody knows: give the token another one "
                "(token.mode development takes it)"
            )
        self._pin = pin
        return pin

    def _refused(self, label: str, error: pkcs11.PKCS11Error, *, keypad: bool) -> PinRefused:
        if isinstance(error, pkcs11.PinExpired):
            return PinRefused(
                f"the PIN of token {label!r} has expired: set a new one and start again"
            )
        answer = type(error).__name__
        if keypad or self._source is None:
            return PinRefused(
                f"token {label!r} refused what was entered on its keypad ({answer}); start again"
            )
        self._remember(self._source)
        return PinRefused(
            f"token {label!r} refused the PIN from {self._source.name} ({answer}); "
            "put the right one there and start again"
        )

    def _remember(self, source: PinSource) -> None:
        if self._refusals is None:
            return
        try:
            self._refusals.add(source, self._seen)
        except (OSError, PinRefused) as error:
            # The refusal itself is what the user must hear of.
            log.error("refused PIN not remembered", file=str(self._refusals.file), error=str(error))


def _check_flags(label: str, flags: TokenFlag) -> None:
    if flags & TokenFlag.USER_PIN_LOCKED:
        raise PinLocked(_locked(label))
    if flags & TokenFlag.USER_PIN_FINAL_TRY:
        raise PinLocked(
            f"token {label!r} locks at the next wrong PIN, so none is tried: log in by hand with "
            "the right one, for example with pkcs11-tool --login, and start again"
        )
    if flags & TokenFlag.USER_PIN_COUNT_LOW:
        log.warning("somebody gave the token a wrong PIN since its last login", token=label)


def _locked(label: str) -> str:
    return f"the PIN of token {label!r} is locked: its security officer can set a new one"
