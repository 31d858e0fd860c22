"""Noted leases: what is read is what was written, whatever happened in between."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sidecar.core.checked_text import DAMAGED
from sidecar.core.lease import Lease, LeaseNote, Reading, Standing
from sidecar.identity import saved_leases as module
from sidecar.identity.saved import SavedCertificates
from sidecar.identity.saved_leases import SavedLeases
from tests.fixtures.clock import START
from tests.fixtures.killed import lines_of

_HOUR = timedelta(hours=1, microseconds=7)
OLD = LeaseNote(
    Lease("0a" * 32, START, -_HOUR, 5 * _HOUR, timedelta(0), Standing.REFUSED),
    "0f4d time:[4026531834]",
    Reading(START + _HOUR, timedelta(seconds=3)),
    START + 2 * _HOUR,
)
NEW = replace(OLD, boot_id="", lease=replace(OLD.lease, standing=Standing.HELD))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(directory: Path) -> SavedLeases:
    return SavedLeases(directory)


def test_what_is_noted_is_loaded_by_another_process_object(
    store: SavedLeases, directory: Path
) -> None:
    store.save("web", OLD)
    store.save("gateway", NEW)
    again = SavedLeases(directory)
    assert again.load("web") == OLD
    assert again.load("gateway") == NEW
    assert (directory / "web.lease").stat().st_mode & 0o777 == 0o600
    with capture_logs() as logs:
        assert again.load("other") is None
    assert logs == []


def test_a_moment_in_another_time_zone_is_the_same_moment(store: SavedLeases) -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    store.save("web", replace(OLD, mark=OLD.mark.astimezone(there)))
    assert store.load("web") == OLD


def test_no_identity_has_a_file_that_is_another_ones(store: SavedLeases, directory: Path) -> None:
    store.save("web", OLD)
    certificates = SavedCertificates(directory)
    assert certificates.load("web") is None
    assert certificates.load("web.lease") is None
    assert store.load("web.lease") is None


def test_a_file_with_any_one_byte_changed_or_missing_is_never_accepted(
    store: SavedLeases, directory: Path
) -> None:
    store.save("web", OLD)
    path = directory / "web.lease"
    original = path.read_bytes()
    with capture_logs() as logs:
        for place in range(len(original)):
            for flip in (0x01, 0x20, 0x80):
                changed = bytearray(original)
                changed[place] ^= flip
                path.write_bytes(changed)
                assert store.load("web") is None
            path.write_bytes(original[:place])
            assert store.load("web") is None
    assert {line["event"] for line in logs} == {"lease unreadable"}
    store.save("web", NEW)
    assert store.load("web") == NEW


@given(st.binary() | st.recursive(st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_garbage_raises_nothing_but_what_counts_as_damage(raw: bytes) -> None:
    with suppress(*DAMAGED):
        module._decoded(raw)


_VALUES = st.none() | st.integers() | st.text() | st.lists(st.text()) | st.floats()


@pytest.mark.parametrize("member", json.loads(module._encoded(OLD))["content"])
def test_arbitrary_members_are_never_accepted(member: str) -> None:
    @given(_VALUES)
    def check(value: object) -> None:
        content = json.loads(module._encoded(OLD))["content"] | {member: value}
        with suppress(*DAMAGED):
            assert module._decoded(json.dumps({"content": content}).encode()) is None

    check()


_KILLED = """
import os, signal, sys
from pathlib import Path
from sidecar.identity.saved_leases import SavedLeases
from tests.unit.identity.test_saved_leases import NEW, OLD

store = SavedLeases(Path(sys.argv[1]))
for call in ["open", "write", "fsync", "replace"]:
    for after in (False, True):
        store.save("web", OLD)
        child = os.fork()
        if not child:
            real = getattr(os, call)
            def killed(*arguments, **options):
                if after:
                    real(*arguments, **options)
                os.kill(os.getpid(), signal.SIGKILL)
            setattr(os, call, killed)
            store.save("web", NEW)
            os._exit(0)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        print({OLD: "old", NEW: "new"}.get(store.load("web"), "neither"))
"""


def test_a_note_that_is_killed_at_any_step_leaves_the_old_or_the_new(directory: Path) -> None:
    lines = lines_of(_KILLED, directory)
    # The rename alone makes the difference.
    assert lines == ["old"] * 7 + ["new"]
