"""Opens the token that the settings name."""

from __future__ import annotations

import os

from sidecar.config.settings import Mode, TokenSettings
from sidecar.errors import ConfigurationError
from sidecar.token.base import Assurance
from sidecar.token.login import Login
from sidecar.token.pin_sources import pin_source
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import PROFILES, profile_of
from sidecar.token.refusals import Refusals


def open_token(settings: TokenSettings) -> Pkcs11Token:
    """Opens the configured token. Blocks.

    Raises:
        ConfigurationError: a setting is wrong, or the mode does not allow this token.
        TokenUnavailable: there is no such token, or it does not answer.
        LoginRefused: the PIN is wrong or locked.
    """
    source = pin_source(settings, os.environ)
    profile = PROFILES.get(settings.profile) or profile_of(settings.module.name)
    _check_assurance(settings, profile.name, profile.assurance)
    refusals = (
        Refusals.open(settings.state, settings.module, settings.selector)
        if settings.state
        else None
    )
    login = Login(source, refusals, default_pins=settings.mode is Mode.DEVELOPMENT)
    token = Pkcs11Token.open(settings.module, settings.selector, login, profile)
    try:
        _check_assurance(settings, token.label, token.assurance)
    except ConfigurationError:
        token.close()
        raise
    return token


def _check_assurance(settings: TokenSettings, name: str, assurance: Assurance | None) -> None:
    if settings.mode is Mode.PRODUCTION and assurance is Assurance.SOFTWARE:
        raise ConfigurationError(
            f"token.mode production: {name} keeps keys in software, where whoever owns "
            "the machine can copy them; use a token in hardware, or token.mode standard"
        )
