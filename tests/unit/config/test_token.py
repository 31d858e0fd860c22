"""[token]: which token, which module, which mode, and two answers to one question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.config.load import parse
from sidecar.config.settings import Mode, TokenSettings
from sidecar.core.token_selector import TokenSelector
from sidecar.errors import ConfigurationError

URI = "pkcs11:token=mesh;serial=0a1b"
SOFTHSM2 = Path("/usr/lib/softhsm/libsofthsm2.so")


def _token(settings: dict[str, Any], **environment: str) -> TokenSettings:
    return parse({"token": settings}, environment).token


def test_a_label_alone_names_a_token() -> None:
    token = _token({"label": "mesh"})
    assert token.selector == TokenSelector(label="mesh")
    assert (token.module, token.mode) == (SOFTHSM2, Mode.STANDARD)
    assert (token.pin_file, token.pin_sealed, token.state) == (None, None, None)


def test_a_uri_names_token_module_and_pin_file() -> None:
    token = _token({"uri": f"{URI}?module-path=/hsm.so&pin-source=file:/pin"})
    assert token.selector == TokenSelector(label="mesh", serial="0a1b")
    assert (token.module, token.pin_file) == (Path("/hsm.so"), Path("/pin"))


def test_what_the_uri_does_not_say_is_said_beside_it() -> None:
    token = _token({"uri": URI, "module": "/hsm.so", "pin_file": "/pin"})
    assert (token.module, token.pin_file) == (Path("/hsm.so"), Path("/pin"))
    token = _token({"uri": f"{URI}?pin-source=/pin"})
    assert (token.module, token.pin_file) == (SOFTHSM2, Path("/pin"))
    assert _token({"uri": URI, "pin_sealed": "/p"}).pin_sealed == Path("/p")


@pytest.mark.parametrize(
    ("settings", "first", "second"),
    [
        ({"uri": URI, "label": "mesh"}, "uri", "label"),
        # The default, but said.
        ({"uri": f"{URI}?module-path=/hsm.so", "module": str(SOFTHSM2)}, "uri", "module"),
        ({"uri": f"{URI}?pin-source=/pin", "pin_file": "/pin"}, "uri", "pin_file"),
        ({"uri": f"{URI}?pin-source=/pin", "pin_sealed": "/p"}, "uri", "pin_sealed"),
        ({"label": "mesh", "pin_file": "/pin", "pin_sealed": "/p"}, "pin_file", "pin_sealed"),
        ({"uri": URI, "pin_file": "/pin", "pin_sealed": "/p"}, "pin_file", "pin_sealed"),
        (
            {"uri": f"{URI}?pin-value=zq7x", "mode": "development", "pin_file": "/pin"},
            "uri",
            "pin_file",
        ),
    ],
)
def test_one_thing_is_not_said_twice(settings: dict[str, Any], first: str, second: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        _token(settings)
    assert str(refused.value) == (
        f"token.{first} and token.{second} say the same thing: leave one of them out"
    )


def test_file_and_environment_together_say_nothing_twice_either() -> None:
    with pytest.raises(ConfigurationError, match=r"token.uri and token.label say the same"):
        _token({"label": "mesh"}, MESHKEY_TOKEN_URI=URI)
    token = _token({"pin_file": "/pin"}, MESHKEY_TOKEN_URI=URI)
    assert token.selector.serial == "0a1b"


@pytest.mark.parametrize("mode", list(Mode))
def test_the_mode_is_one_of_three(mode: Mode) -> None:
    assert _token({"label": "mesh", "mode": mode.value}).mode is mode
    assert _token({"label": "mesh"}, MESHKEY_TOKEN_MODE=mode.value).mode is mode


@pytest.mark.parametrize("wrong", ["", "Production", "prod", True, 1, None, []])
def test_any_other_mode_is_refused(wrong: object) -> None:
    with pytest.raises(
        ConfigurationError, match=r"token.mode: one of development, standard, production"
    ):
        _token({"label": "mesh", "mode": wrong})


@pytest.mark.parametrize("mode", [None, "standard", "production"])
def test_outside_development_a_pin_in_plain_text_is_refused_and_not_shown(
    mode: str | None,
) -> None:
    chosen = {"mode": mode} if mode else {}
    with pytest.raises(ConfigurationError, match=r"pin-value is for token.mode dev") as refused:
        _token({"uri": f"{URI}?pin-value=zq7x", **chosen})
    assert "zq7x" not in str(refused.value)
    with pytest.raises(ConfigurationError, match=r"MESHKEY_TOKEN_PIN is for token.mode") as refused:
        _token({"label": "mesh", "pin_file": "/pin", **chosen}, MESHKEY_TOKEN_PIN="zq7x")
    assert "zq7x" not in str(refused.value)


def test_in_development_a_pin_in_plain_text_is_taken_and_not_shown() -> None:
    token = _token({"uri": f"{URI}?pin-value=zq7x", "mode": "development"})
    assert token.uri
    assert token.uri.pin_value == "zq7x"
    assert "zq7x" not in f"{token} {token!r}"
    assert _token({"label": "mesh", "mode": "development"}, MESHKEY_TOKEN_PIN="zq7x")


def test_a_wrong_uri_is_a_wrong_setting_without_its_pin() -> None:
    with pytest.raises(ConfigurationError, match=r"^token.uri: token is there twice$"):
        _token({"uri": "pkcs11:token=a;token=b"})
    with pytest.raises(ConfigurationError, match=r"^token.uri: ") as refused:
        _token({"uri": "pkcs11:token=a?pin-value=zq7x&zq7y", "mode": "development"})
    assert "zq7" not in str(refused.value)
