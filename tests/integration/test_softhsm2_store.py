"""The store that a pod's init step makes, by the real softhsm2-util."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError, StartFailed
from sidecar.token import softhsm2_util
from sidecar.token.login import Login
from sidecar.token.pin_sources import PinFile
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import SOFTHSM2
from sidecar.token.softhsm2_store import Softhsm2Store
from tests.conftest import MESH, MODULE

# Notes what everybody can read of the process, and becomes the real tool.
_NOTING = """#!/bin/sh
tr '\\0' '\\n' < /proc/$$/cmdline > {notes}/arguments
tr '\\0' '\\n' < /proc/$$/environ > {notes}/environment
exec {real} "$@"
"""


@pytest.fixture
def store(short_dir: Path) -> Softhsm2Store:
    directory = short_dir / "store"
    directory.mkdir(mode=0o700)
    return Softhsm2Store(directory, "mesh")


def test_a_token_is_made_and_opens_with_its_pin_wherever_the_store_is_moved_to(
    store: Softhsm2Store, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.create()
    moved = Softhsm2Store(store.directory.rename(short_dir / "moved"), "mesh")
    configuration = short_dir / "softhsm2.conf"
    configuration.write_text(softhsm2_util.configuration_text(moved.tokens))
    monkeypatch.setenv("SOFTHSM2_CONF", str(configuration))
    token = Pkcs11Token.open(MODULE, MESH, Login(PinFile(moved.pin_file)), SOFTHSM2)
    token.close()


def test_nothing_is_there_but_the_token_and_its_pin_and_only_the_owner_reads_them(
    store: Softhsm2Store,
) -> None:
    store.create()
    assert sorted(entry.name for entry in store.directory.iterdir()) == ["mesh.pin", "tokens"]
    assert stat.S_IMODE(store.pin_file.stat().st_mode) == 0o400
    for entry in (store.tokens, *store.tokens.rglob("*")):
        assert not entry.stat().st_mode & 0o077, entry


def test_each_pin_is_another_one(store: Softhsm2Store, short_dir: Path) -> None:
    (short_dir / "other").mkdir()
    other = Softhsm2Store(short_dir / "other", "mesh")
    store.create()
    other.create()
    first, second = store.pin_file.read_text(), other.pin_file.read_text()
    assert first != second
    assert len(first) == 32


def test_no_pin_is_an_argument_or_in_the_environment(
    store: Softhsm2Store, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("softhsm2-util")
    noting = short_dir / "bin" / "softhsm2-util"
    noting.parent.mkdir()
    noting.write_text(_NOTING.format(notes=short_dir, real=real))
    noting.chmod(0o755)
    monkeypatch.setenv("PATH", f"{noting.parent}:{os.environ['PATH']}")
    given: list[str] = []
    init_token = softhsm2_util.init_token

    def noted(environment: dict[str, str], label: str, so_pin: str, pin: str) -> None:
        given.extend((so_pin, pin))
        init_token(environment, label, so_pin, pin)

    monkeypatch.setattr(softhsm2_util, "init_token", noted)
    store.create()
    assert given[1] == store.pin_file.read_text()
    for notes in ("arguments", "environment"):
        text = (short_dir / notes).read_text()
        assert text
        assert not any(pin in text for pin in given), notes


def test_a_second_run_leaves_token_and_pin_as_they_are(store: Softhsm2Store) -> None:
    assert store.create()
    before = {path: path.stat().st_mtime_ns for path in store.directory.rglob("*")}
    assert not store.create()
    assert {path: path.stat().st_mtime_ns for path in store.directory.rglob("*")} == before


def _nothing_else(_store: Softhsm2Store) -> None:
    pass


def _empty_tokens(store: Softhsm2Store) -> None:
    store.tokens.mkdir()


def _half_a_token(store: Softhsm2Store) -> None:
    (store.tokens / "8f1b").mkdir(parents=True)
    (store.tokens / "8f1b" / "token.lock").write_text("")


def _whole_token(store: Softhsm2Store) -> None:
    store.create()
    store.pin_file.unlink()


@pytest.mark.parametrize("left", [_nothing_else, _empty_tokens, _half_a_token, _whole_token])
def test_what_an_interrupted_run_has_left_is_made_anew(
    store: Softhsm2Store, left: Callable[[Softhsm2Store], None]
) -> None:
    left(store)
    (store.directory / ".mesh.pin.unfinished").write_text("of the run before")
    (store.directory / ".mesh.pin.unfinished").chmod(0o400)
    (store.directory / ".softhsm2.conf").write_text("")
    assert store.create()
    assert len(list(store.tokens.iterdir())) == 1
    assert sorted(entry.name for entry in store.directory.iterdir()) == ["mesh.pin", "tokens"]
    assert store.pin_file.read_text() != "of the run before"


def test_a_pin_without_its_token_is_refused(store: Softhsm2Store) -> None:
    store.create()
    shutil.rmtree(store.tokens)
    with pytest.raises(ConfigurationError, match=r"mesh\.pin is there, and no token in .* bring"):
        store.create()
    assert store.pin_file.exists()


def test_a_token_without_its_pin_is_refused(store: Softhsm2Store) -> None:
    store.create()
    store.pin_file.unlink()
    with pytest.raises(ConfigurationError, match=r"mesh\.pin is not there: put its PIN there"):
        store.create()
    assert list(store.tokens.iterdir())


def test_a_tool_that_refuses_leaves_no_pin_file(store: Softhsm2Store) -> None:
    # A label has at most 32 bytes (CK_TOKEN_INFO).
    long = Softhsm2Store(store.directory, "m" * 33)
    with pytest.raises(StartFailed, match="softhsm2-util: "):
        long.create()
    assert not long.pin_file.exists()


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"nowhere.* cannot be written: No such file"):
        Softhsm2Store(tmp_path / "nowhere", "mesh").create()
