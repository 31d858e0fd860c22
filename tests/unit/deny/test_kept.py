"""What was taken last survives a crash, and damage is never taken for a beginning."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.deny.kept import Kept, KeptFile
from sidecar.errors import ConfigurationError, DenyListUnavailable, StartFailed
from tests.fixtures.deny_lists import PEER, ListSigner, deny_list

_LIST = deny_list(7, PEER)
_KEPT = Kept.of(_LIST, ListSigner().sign(_LIST) + b"\n")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def file(directory: Path) -> KeptFile:
    return KeptFile(directory)


def _path(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


def test_what_was_kept_is_there_in_the_next_life_and_for_nobody_else(
    file: KeptFile, directory: Path
) -> None:
    assert file.load() is None
    file.save(Kept(1, "", b""))
    file.save(_KEPT)
    assert KeptFile(directory).load() == _KEPT
    assert directory.stat().st_mode & 0o777 == 0o700
    assert _path(directory).stat().st_mode & 0o777 == 0o600


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_with_any_byte_changed_it_is_damaged(
    file: KeptFile, directory: Path, data: st.DataObject
) -> None:
    file.save(_KEPT)
    raw = bytearray(_path(directory).read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    _path(directory).write_bytes(raw)
    with pytest.raises(StartFailed, match=r"torn or changed.*put the newest list in place"):
        file.load()


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_a_torn_file_is_damaged(file: KeptFile, directory: Path, left: int) -> None:
    file.save(_KEPT)
    path = _path(directory)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(StartFailed, match="torn or changed"):
        file.load()


def test_what_cannot_be_read_is_no_beginning(file: KeptFile, directory: Path) -> None:
    file.save(_KEPT)
    path = _path(directory)
    path.unlink()
    path.symlink_to("/dev/null")
    with pytest.raises(StartFailed, match=r"deny_list\.state"):
        file.load()
    path.unlink()
    path.mkdir()
    with pytest.raises(StartFailed, match="directory"):
        file.load()


def test_what_cannot_be_written_leaves_what_was(
    file: KeptFile, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.save(_KEPT)

    def full(_descriptor: int, _content: bytes) -> int:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DenyListUnavailable, match="No space left on device"):
            file.save(Kept(8, "", b""))
    assert file.load() == _KEPT


def test_it_is_on_the_disk_when_it_returns(
    file: KeptFile, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_replace, real_fsync = Path.replace, os.fsync

    def replace(self: Path, target: Path) -> Path:
        done.append("renamed")
        return real_replace(self, target)

    def fsync(descriptor: int) -> None:
        done.append("synced")
        real_fsync(descriptor)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(os, "fsync", fsync)
    file.save(_KEPT)
    assert done == ["synced", "renamed", "synced"]


def test_a_directory_that_others_can_enter_is_refused(directory: Path) -> None:
    directory.mkdir(mode=0o755)
    with pytest.raises(ConfigurationError, match=r"deny_list\.state .* is open to others"):
        KeptFile(directory)
