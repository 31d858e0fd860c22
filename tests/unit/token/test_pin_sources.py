"""Which PIN source comes first, and what becomes of a PIN in the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.config.load import parse
from sidecar.errors import ConfigurationError
from sidecar.token.pin_sources import GivenPin, PinFile, PinSource, no_source, pin_source
from sidecar.token.sealed_pin import SealedPin

URI = "pkcs11:token=mesh?pin-value=from-the-uri"


def _source(environment: dict[str, str], **settings: Any) -> PinSource | None:
    settings = {"mode": "development", **settings}
    if "uri" not in settings:
        settings.setdefault("label", "mesh")
    return pin_source(parse({"token": settings}, {}).token, environment)


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    directory = tmp_path / "credentials"
    directory.mkdir()
    return directory


def _credential(directory: Path, label: str = "mesh", mode: int = 0o400) -> Path:
    file = directory / f"meshkey.{label}.pin"
    file.write_text("from-systemd\n", encoding="utf-8")
    file.chmod(mode)
    return file


def test_a_credential_comes_before_everything(credentials: Path) -> None:
    environment = {"CREDENTIALS_DIRECTORY": str(credentials), "MESHKEY_TOKEN_PIN": "zq7x"}
    _credential(credentials)
    source = _source(environment, pin_file="/pin")
    assert source
    assert source.name == f"credential {credentials}/meshkey.mesh.pin"
    assert source.read().value == "from-systemd"


def test_without_a_credential_the_settings_decide(credentials: Path) -> None:
    environment = {"CREDENTIALS_DIRECTORY": str(credentials), "MESHKEY_TOKEN_PIN": "zq7x"}
    assert _source(dict(environment), pin_file="/pin") == PinFile(Path("/pin"))
    assert _source(dict(environment), pin_sealed="/p") == SealedPin(Path("/p"))
    given = _source(dict(environment), uri=URI)
    assert isinstance(given, GivenPin)
    assert given.read().value == "from-the-uri"
    given = _source(dict(environment))
    assert isinstance(given, GivenPin)
    assert given.read().value == "zq7x"
    assert _source({}) is None


def test_a_credential_belongs_to_one_label(credentials: Path) -> None:
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    _credential(credentials)
    assert _source(environment, label="other") is None
    assert _source(environment, uri="pkcs11:serial=1") is None
    assert _source(environment, uri="pkcs11:token=mesh;serial=1")


@pytest.mark.parametrize("label", ["../mesh", "a/../../outside", "/mesh", "a\0b"])
def test_no_label_leads_out_of_the_directory(credentials: Path, label: str) -> None:
    (credentials / "meshkey.a").mkdir()
    (credentials.parent / "outside.pin").write_text("x", encoding="utf-8")
    assert _source({"CREDENTIALS_DIRECTORY": str(credentials)}, label=label) is None


@pytest.mark.parametrize(("mode", "fine"), [(0o400, True), (0o440, True), (0o404, False)])
def test_a_credential_may_show_the_mask_of_its_acl(
    credentials: Path, mode: int, *, fine: bool
) -> None:
    _credential(credentials, mode=mode)
    source = _source({"CREDENTIALS_DIRECTORY": str(credentials)})
    assert source
    if fine:
        source.require()
        assert source.read().value == "from-systemd"
    else:
        with pytest.raises(ConfigurationError, match="open to others"):
            source.require()


def test_a_credentials_directory_that_is_none_is_passed_over() -> None:
    for directory in ("", "/gone", "/dev/null"):
        assert _source({"CREDENTIALS_DIRECTORY": directory}) is None


def test_a_file_is_looked_at_without_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pin"
    file.write_text("zq7x", encoding="utf-8")
    file.chmod(0o400)
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("it was read"))
    PinFile(file).require()
    file.chmod(0o444)
    with pytest.raises(ConfigurationError, match="open to others"):
        PinFile(file).require()


@pytest.mark.parametrize("settings", [{}, {"pin_file": "/pin"}, {"uri": URI}])
def test_a_pin_leaves_the_environment_whether_it_is_used_or_not(settings: dict[str, Any]) -> None:
    environment = {"MESHKEY_TOKEN_PIN": "zq7x", "PATH": "/bin"}
    _source(environment, **settings)
    assert environment == {"PATH": "/bin"}


def test_children_do_not_inherit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHKEY_TOKEN_PIN", "zq7x")
    token = parse({"token": {"label": "mesh", "mode": "development"}}, os.environ).token
    assert pin_source(token, os.environ)
    child = [sys.executable, "-c", "import os; print(os.environ)"]
    seen = subprocess.run(child, capture_output=True, text=True, check=True)
    assert "PATH" in seen.stdout
    assert "zq7x" not in seen.stdout


@pytest.mark.parametrize(
    ("settings", "name"), [({}, "MESHKEY_TOKEN_PIN"), ({"uri": URI}, "token.uri pin-value")]
)
def test_a_pin_in_plain_text_is_a_warning_without_the_pin(
    settings: dict[str, Any], name: str
) -> None:
    with capture_logs() as logs:
        source = _source({"MESHKEY_TOKEN_PIN": "zq7x"}, **settings)
    (entry,) = logs
    assert (entry["log_level"], entry["source"]) == ("warning", name)
    for text in (str(logs), repr(source), str(source)):
        assert "zq7x" not in text
        assert "from-the-uri" not in text


def test_a_pin_in_the_environment_that_is_no_text_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="MESHKEY_TOKEN_PIN is not UTF-8") as refused:
        _source({"MESHKEY_TOKEN_PIN": "zq7x\udcff"})
    assert "zq7x" not in str(refused.value)
    assert _source({"MESHKEY_TOKEN_PIN": ""}) is None


def test_without_a_source_the_places_are_named() -> None:
    message = no_source("mesh")
    assert "token.pin_file" in message
    assert "token.pin_sealed" in message
    assert "meshkey.mesh.pin" in message
