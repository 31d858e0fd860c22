"""What must hold between the settings of [token]: the one place that compares them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from sidecar.config.settings import Mode, TokenSettings
from sidecar.core.pkcs11_uri import Pkcs11Uri
from sidecar.errors import ConfigurationError

# Looks like a setting and is none: no file holds it, and only development mode takes it.
PIN_VARIABLE = "MESHKEY_TOKEN_PIN"


def checked(
    token: TokenSettings, given: Collection[str], environment: Mapping[str, str]
) -> TokenSettings:
    """`token` with the module and the PIN file that its URI names.

    `given` are the settings that are not there by default.

    Raises:
        ConfigurationError: two settings say the same thing, none names the token, or the
            mode does not allow what is there.
    """
    _refuse_pins_outside_development(token, environment)
    _refuse_both(given, "pin_file", "pin_sealed")
    if token.uri is None:
        if token.label is None:
            raise ConfigurationError("[token] names no token: set token.label or token.uri")
        return token
    for said_by_uri in _names(token.uri):
        _refuse_both(given, "uri", said_by_uri)
    return replace(
        token,
        module=token.uri.module_path or token.module,
        pin_file=token.uri.pin_source or token.pin_file,
    )


def _names(uri: Pkcs11Uri) -> list[str]:
    """The settings that `uri` leaves no room for."""
    names = ["label"]
    if uri.module_path:
        names.append("module")
    if uri.pin_source or uri.pin_value:
        names += ["pin_file", "pin_sealed"]
    return names


def _refuse_both(given: Collection[str], first: str, second: str) -> None:
    if first in given and second in given:
        raise ConfigurationError(
            f"token.{first} and token.{second} say the same thing: leave one of them out"
        )


def _refuse_pins_outside_development(token: TokenSettings, environment: Mapping[str, str]) -> None:
    if token.mode is Mode.DEVELOPMENT:
        return
    if PIN_VARIABLE in environment:
        raise ConfigurationError(
            f"{PIN_VARIABLE} is for token.mode development only, every child process could "
            "read it: use token.pin_file"
        )
    if token.uri and token.uri.pin_value:
        raise ConfigurationError(
            "token.uri: pin-value is for token.mode development only: use pin-source"
        )
