"""PIN files: who may read them, and that the PIN shows nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError
from sidecar.token.pin import Pin


def _file(directory: Path, content: bytes = b"1234\n", mode: int = 0o400) -> Path:
    file = directory / "pin"
    file.write_bytes(content)
    file.chmod(mode)
    return file


@pytest.mark.parametrize("content", [b"1234", b"1234\n", b"1234\r\n", b"1234\nsecond line\n"])
def test_the_first_line_is_the_pin(tmp_path: Path, content: bytes) -> None:
    assert Pin.read(_file(tmp_path, content)).value == "1234"


def test_spaces_belong_to_the_pin(tmp_path: Path) -> None:
    assert Pin.read(_file(tmp_path, b" 12 34 \n")).value == " 12 34 "


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_a_file_that_only_its_owner_may_open_is_read(tmp_path: Path, mode: int) -> None:
    assert Pin.read(_file(tmp_path, mode=mode)).value == "1234"


@pytest.mark.parametrize("mode", [0o404, 0o440, 0o604, 0o644, 0o420, 0o410, 0o401])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigurationError, match="open to others; chmod 0400"):
        Pin.read(_file(tmp_path, mode=mode))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    file = _file(tmp_path)
    os.chown(file, 65534, 65534)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        Pin.read(file)


def test_a_link_is_as_good_as_the_file_that_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(_file(tmp_path))
    assert Pin.read(tmp_path / "link") == Pin.read(_file(tmp_path))
    _file(tmp_path).chmod(0o644)
    with pytest.raises(ConfigurationError, match="is open to others"):
        Pin.read(tmp_path / "link")


@pytest.mark.parametrize("content", [b"", b"\n", b"\n1234\n"])
def test_an_empty_first_line_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError, match="is empty"):
        Pin.read(_file(tmp_path, content))


def _missing(path: Path) -> None:
    pass


def _directory(path: Path) -> None:
    path.mkdir(mode=0o700)


def _pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize("make", [_missing, _directory, _pipe])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "pin")
    with pytest.raises(ConfigurationError, match="PIN file"):
        Pin.read(tmp_path / "pin")


def test_bytes_that_are_no_text_are_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not UTF-8") as refused:
        Pin.read(_file(tmp_path, b"secret\xff"))
    assert "secret" not in str(refused.value)


def test_no_text_form_of_a_pin_shows_it() -> None:
    pin = Pin("correct horse")
    assert "correct" not in f"{pin} {pin!r} {[pin]}"
