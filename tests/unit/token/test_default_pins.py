"""PINs that everybody knows."""

from __future__ import annotations

import pytest

from sidecar.token.default_pins import is_default_pin


@pytest.mark.parametrize(
    "pin",
    [
        *("1234", "12345678", "123456", "0000", "00000000", "1111", "password", "userpin"),
        *("HSMUserPin", "HSMUSERPIN", "0001password", "648219", "98765432", "1234567890"),
    ],
)
def test_factory_settings_and_tutorials_are_known(pin: str) -> None:
    assert is_default_pin(pin)


@pytest.mark.parametrize("pin", ["", " 1234", "12340", "correct horse", "f" * 32])
def test_other_pins_are_not(pin: str) -> None:
    assert not is_default_pin(pin)
