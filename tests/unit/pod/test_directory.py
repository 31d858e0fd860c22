"""Directories in a volume that everybody may write."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError
from sidecar.pod.directory import make_own
from tests.fixtures.users import CALLER, IS_ROOT


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """As an emptyDir is when it is fresh."""
    made = tmp_path / "volume"
    made.mkdir()
    made.chmod(0o777)
    return made


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o750, 0o700])
def test_a_directory_has_exactly_its_mode_whatever_the_umask(volume: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        make_own(volume / "signer", mode)
    finally:
        os.umask(before)
    assert mode_of(volume / "signer") == mode
    assert mode_of(volume) == 0o777, "the volume itself is left alone"


def test_the_group_that_a_volume_hands_down_is_not_taken(volume: Path) -> None:
    if not IS_ROOT:
        pytest.skip("only root can give a directory to a group that it is not in")
    os.chown(volume, -1, CALLER.pw_gid)
    volume.chmod(0o2777)
    make_own(volume / "signer", 0o750)
    assert (volume / "signer").stat().st_gid == os.getegid()
    assert mode_of(volume / "signer") == 0o750


def test_one_of_an_earlier_run_is_taken_up_with_what_is_in_it(volume: Path) -> None:
    make_own(volume / "store", 0o700)
    (volume / "store" / "key").write_text("kept")
    (volume / "store").chmod(0o777)
    make_own(volume / "store", 0o700)
    assert mode_of(volume / "store") == 0o700
    assert (volume / "store" / "key").read_text() == "kept"


def test_what_somebody_else_has_put_there_is_refused(volume: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (volume / "link").symlink_to(elsewhere)
    (volume / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(ConfigurationError, match="must be a fresh emptyDir"):
            make_own(volume / name, 0o700)
    assert mode_of(elsewhere) != 0o700, "a link is not followed"


def test_another_users_directory_is_refused(volume: Path) -> None:
    if not IS_ROOT:
        pytest.skip("only root can give a directory to another user")
    (volume / "signer").mkdir()
    os.chown(volume / "signer", CALLER.pw_uid, -1)
    with pytest.raises(ConfigurationError, match=f"belongs to user {CALLER.pw_uid}, not to user"):
        make_own(volume / "signer", 0o750)


def test_a_volume_that_is_not_mounted_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="sockets is no directory: mount the volume there"):
        make_own(tmp_path / "sockets" / "signer", 0o750)
