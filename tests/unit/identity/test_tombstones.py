"""Tombstones: what was ended stays ended, whatever happened to its file."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import checked_text
from sidecar.errors import ConfigurationError
from sidecar.identity import tombstones as module
from sidecar.identity.tombstones import (
    DAMAGED,
    FileTombstones,
    NoTombstones,
    StillValid,
    Tombstone,
)
from sidecar.token.base import KeyId
from tests.fixtures.clock import START
from tests.fixtures.killed import lines_of

KEY = KeyId(b"\x0a\x1f")
STONE = Tombstone(
    "web", START, (StillValid(KEY, "ab12", "CN=the root", START + timedelta(hours=1)),)
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def tombstones(directory: Path) -> FileTombstones:
    return FileTombstones(directory)


def test_who_was_ended_is_ended_for_another_start(
    tombstones: FileTombstones, directory: Path
) -> None:
    assert tombstones.deprovisioned("web") is None
    assert tombstones.deprovision("web", STONE) == str(directory / "web.deprovisioned")
    again = FileTombstones(directory)
    assert again.deprovisioned("web") == STONE
    assert again.deprovisioned("edge") is None
    again.reinstate("web")
    assert again.deprovisioned("web") is None
    again.reinstate("web")


def test_keys_are_revoked_for_every_identity_of_the_directory(
    tombstones: FileTombstones, directory: Path
) -> None:
    assert tombstones.revoked() == {}
    other = KeyId(b"\xff" * 16)
    assert tombstones.revoke(KEY, STONE) == str(directory / "0a1f.revoked")
    tombstones.revoke(other, Tombstone("edge", START))
    tombstones.deprovision("ab.cd", STONE)
    (directory / "no key.revoked").touch()
    assert FileTombstones(directory).revoked() == {KEY: STONE, other: Tombstone("edge", START)}


def test_the_files_are_ours_alone(tombstones: FileTombstones, directory: Path) -> None:
    tombstones.deprovision("web", STONE)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "web.deprovisioned").stat().st_mode & 0o777 == 0o600
    directory.chmod(0o755)
    with pytest.raises(ConfigurationError, match="open to others"):
        FileTombstones(directory)


def _make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 2')),
        lambda path: path.write_bytes(bytes(200_000)),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to("nowhere")),
        _make_pipe,
    ],
    ids=["empty", "torn", "of another version", "huge", "directory", "dangling link", "pipe"],
)
def test_a_damaged_tombstone_counts_all_the_same(
    tombstones: FileTombstones, directory: Path, damage: Callable[[Path], object]
) -> None:
    tombstones.deprovision("web", STONE)
    tombstones.revoke(KEY, STONE)
    damage(directory / "web.deprovisioned")
    damage(directory / "0a1f.revoked")
    assert tombstones.deprovisioned("web") == DAMAGED
    assert tombstones.revoked() == {KEY: DAMAGED}


def test_a_store_that_cannot_be_asked_is_no_sign_of_life(
    tombstones: FileTombstones, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(_path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "lstat", failed)
    with pytest.raises(ConfigurationError, match="Input/output error"):
        tombstones.deprovisioned("web")


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_garbage_raises_nothing_but_what_counts_as_damage(raw: bytes) -> None:
    with suppress(*checked_text.DAMAGED):
        module._decoded(raw)


def test_a_moment_without_a_time_zone_is_damage() -> None:
    raw = module._encoded(STONE).replace(b"+00:00", b"")
    with pytest.raises(ValueError, match="no time zone"):
        module._decoded(raw)


def test_without_a_directory_nothing_outlasts_the_process() -> None:
    tombstones = NoTombstones()
    assert tombstones.deprovision("web", STONE) == tombstones.revoke(KEY, STONE) == ""
    tombstones.reinstate("web")
    assert (tombstones.deprovisioned("web"), tombstones.revoked()) == (None, {})


_KILLED_AT_EVERY_STEP = """
import sys
from pathlib import Path
from sidecar.identity.tombstones import FileTombstones
from tests.fixtures.killed import killed
from tests.unit.identity.test_tombstones import STONE

directory = Path(sys.argv[1])
for after in (False, True):
    step = 1
    while True:
        stones = FileTombstones(directory)
        died = killed(lambda: stones.deprovision("web", STONE), step, after=after)
        found = FileTombstones(directory).deprovisioned("web")
        print({None: "alive", STONE: "dead"}.get(found, "neither"), "killed" if died else "done")
        FileTombstones(directory).reinstate("web")
        if not died:
            break
        step += 1
"""


def test_a_crash_at_any_step_leaves_no_tombstone_or_a_whole_one(directory: Path) -> None:
    """By SIGKILL, before and after each system call, and with half of the content written."""
    lines = lines_of(_KILLED_AT_EVERY_STEP, directory)
    assert set(lines) == {"alive killed", "dead killed", "dead done"}
    assert len(lines) == 2 * (9 + 1)
