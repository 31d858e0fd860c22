"""Saved certificates: what is read is what was written, whatever happened in between."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sidecar.core.checked_text import DAMAGED
from sidecar.errors import ConfigurationError
from sidecar.identity import saved as module
from sidecar.identity.saved import SavedCertificates, SavedIdentity
from sidecar.token.base import KeyId
from tests.fixtures.clock import START
from tests.fixtures.killed import lines_of

OLD = SavedIdentity(KeyId(b"\x0a\x1f"), (b"leaf", b"intermediate"), START)
NEW = SavedIdentity(KeyId(b"\x0b"), (b"new leaf",), START + timedelta(minutes=10, microseconds=5))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "certificates"


@pytest.fixture
def store(directory: Path) -> SavedCertificates:
    return SavedCertificates(directory)


def test_what_is_saved_is_loaded_by_another_process_object(
    store: SavedCertificates, directory: Path
) -> None:
    store.save("web", OLD)
    store.save("gateway", NEW)
    again = SavedCertificates(directory)
    assert again.load("web") == OLD
    assert again.load("gateway") == NEW
    store.save("web", NEW)
    assert again.load("web") == NEW


def test_a_moment_in_another_time_zone_is_the_same_moment(store: SavedCertificates) -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    store.save("web", replace(OLD, obtained=START.astimezone(there)))
    assert store.load("web") == OLD


def test_nothing_saved_is_nothing_and_no_warning(store: SavedCertificates) -> None:
    with capture_logs() as logs:
        assert store.load("web") is None
    assert logs == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".web", "a/b", "../web", "a\0", "a b", "web\n", "ü", "a" * 64]
)
def test_a_name_that_is_no_safe_file_name_is_refused(store: SavedCertificates, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.load(name),
        lambda: store.save(name, OLD),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="cannot be a file's name"):
            call()


def test_directory_and_files_are_ours_alone(store: SavedCertificates, directory: Path) -> None:
    store.save("web", OLD)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "web.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o710, 0o701, 0o720, 0o755, 0o777])
def test_a_directory_that_is_open_to_others_is_refused(directory: Path, mode: int) -> None:
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"open to others; chmod 0700 /.*/certificates"):
        SavedCertificates(directory)


def test_a_directory_of_another_user_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir(mode=0o700)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(ConfigurationError, match=f"another user; chown it to user {me + 1}"):
        SavedCertificates(directory)


def test_what_is_no_directory_is_refused(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    directory.symlink_to("elsewhere")
    with pytest.raises(ConfigurationError, match="no directory of its own"):
        SavedCertificates(directory)
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        SavedCertificates(tmp_path / "missing" / "certificates")


def test_neither_roots_nor_secrets_are_in_the_file(
    store: SavedCertificates, directory: Path
) -> None:
    store.save("web", OLD)
    document = json.loads((directory / "web.json").read_bytes())
    assert document.keys() == {"format", "sha256", "content"}
    assert document["content"].keys() == {"key_id", "chain", "obtained"}


def test_a_file_with_any_one_byte_changed_is_never_accepted(
    store: SavedCertificates, directory: Path
) -> None:
    store.save("web", OLD)
    path = directory / "web.json"
    original = path.read_bytes()
    with capture_logs() as logs:
        for place in range(len(original)):
            for flip in (0x01, 0x20, 0x80):
                changed = bytearray(original)
                changed[place] ^= flip
                path.write_bytes(changed)
                assert store.load("web") is None
    assert {line["event"] for line in logs} == {"saved certificate unreadable"}
    assert len(logs) == 3 * len(original)


def test_a_torn_file_is_never_accepted_and_the_next_save_replaces_it(
    store: SavedCertificates, directory: Path
) -> None:
    store.save("web", OLD)
    path = directory / "web.json"
    original = path.read_bytes()
    for length in range(len(original)):
        path.write_bytes(original[:length])
        assert store.load("web") is None
    path.write_bytes(original + original)
    assert store.load("web") is None
    store.save("web", NEW)
    assert store.load("web") == NEW


def test_a_file_of_another_version_is_not_read(store: SavedCertificates, directory: Path) -> None:
    store.save("web", OLD)
    path = directory / "web.json"
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2'))
    assert store.load("web") is None


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("other")])
def test_what_is_no_regular_file_is_not_read_and_holds_nothing_up(
    store: SavedCertificates, directory: Path, make: Callable[[Path], None]
) -> None:
    store.save("other", OLD)
    (directory / "other.json").rename(directory / "other")
    make(directory / "web.json")
    assert store.load("web") is None


def test_a_huge_file_is_not_read(store: SavedCertificates, directory: Path) -> None:
    store.save("web", replace(OLD, chain=(bytes(200_000),)))
    assert store.load("web") is None


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_garbage_raises_nothing_but_what_counts_as_damage(raw: bytes) -> None:
    with suppress(*DAMAGED):
        module._decoded(raw)


_JSON = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(st.sampled_from(["key_id", "chain", "obtained"]), _JSON)
def test_a_member_of_any_kind_counts_as_damage(member: str, value: object) -> None:
    content = json.loads(module._encoded(OLD))["content"] | {member: value}
    with suppress(*DAMAGED):
        assert module._decoded(json.dumps({"content": content}).encode()) is None


def test_the_new_content_is_on_disk_before_its_name_is_and_the_name_before_the_return(
    store: SavedCertificates, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append(f"fsync {target.name} {target.stat().st_size if target.is_file() else ''}")
        fsync(descriptor)

    def noted_rename(source: Path, target: Path) -> None:
        steps.append(f"rename {source.name} {target.name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_rename)
    store.save("web", OLD)
    size = (directory / "web.json").stat().st_size
    assert steps == [
        f"fsync .web.json.new {size}",
        "rename .web.json.new web.json",
        "fsync certificates ",
    ]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_one_and_nothing_else(
    store: SavedCertificates, directory: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store.save("web", OLD)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            store.save("web", NEW)
    assert store.load("web") == OLD
    assert [path.name for path in directory.iterdir()] == ["web.json"]


_KILLED_AT_EVERY_STEP = """
import sys
from pathlib import Path
from sidecar.identity.saved import SavedCertificates
from tests.fixtures.killed import killed
from tests.unit.identity.test_saved import NEW, OLD

directory, store = Path(sys.argv[1]), None
for after in (False, True):
    step = 1
    while True:
        store = SavedCertificates(directory)
        store.save("web", OLD)
        died = killed(lambda: store.save("web", NEW), step, after=after)
        loaded = store.load("web")
        print({OLD: "old", NEW: "new"}.get(loaded, "neither"), "killed" if died else "lived")
        store.save("web", NEW)
        assert store.load("web") == NEW
        if not died:
            break
        step += 1
"""


def test_a_save_that_is_killed_at_any_step_leaves_the_old_or_the_new(directory: Path) -> None:
    """By SIGKILL, before and after each system call, and with half of the content written."""
    lines = lines_of(_KILLED_AT_EVERY_STEP, directory)
    assert set(lines) == {"old killed", "new killed", "new lived"}
    # Unlink, open, write, sync, close, rename; open, sync, close of the directory: twice.
    assert len(lines) == 2 * (9 + 1)
