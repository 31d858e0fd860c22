"""Hashes of programs: each file is read once, and never believed to be what it was."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.callers import executables
from sidecar.callers.executables import Executables


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    read: list[str] = []
    file_digest = hashlib.file_digest

    def counting(file: Any, digest: str) -> Any:
        read.append(str(Path(f"/proc/self/fd/{file.fileno()}").readlink().name))
        return file_digest(file, digest)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return read


def _later() -> float:
    """Files that were changed just now have rested."""
    return time.time() + 10


def _hash(known: Executables, path: Path) -> str | None:
    executable = known.read(path)
    return executable.sha256 if executable else None


def test_a_file_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"one")
    known = Executables(_later)
    for _ in range(3):
        assert _hash(known, program) == hashlib.sha256(b"one").hexdigest()
    assert reads == ["program"]


def test_a_file_that_was_changed_just_now_is_read_again(tmp_path: Path, reads: list[str]) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"one")
    changed = program.stat().st_ctime
    known = Executables(lambda: changed + 1.9)
    _hash(known, program)
    _hash(known, program)
    assert len(reads) == 2


def _written_over(program: Path) -> None:
    status = program.stat()
    program.write_bytes(b"two")
    os.utime(program, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replaced(program: Path) -> None:
    other = program.with_name("other")
    other.write_bytes(b"two")
    other.rename(program)


@pytest.mark.parametrize("change", [_written_over, _replaced])
def test_another_file_of_the_same_length_is_another_program(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"one")
    known = Executables(_later)
    first = known.read(program)
    change(program)
    second = known.read(program)
    assert first
    assert second
    assert second.sha256 == hashlib.sha256(b"two").hexdigest()
    assert second.identity != first.identity


def test_a_file_that_changes_while_it_is_read_has_no_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"one")
    file_digest = hashlib.file_digest

    def changed_meanwhile(file: Any, digest: str) -> Any:
        program.write_bytes(b"longer")
        return file_digest(file, digest)

    monkeypatch.setattr(hashlib, "file_digest", changed_meanwhile)
    assert Executables(_later).read(program) is None


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, reads: list[str]) -> None:
    program = tmp_path / "program"
    with program.open("wb") as file:
        file.truncate(executables._LARGEST + 1)
    assert Executables().read(program) is None
    assert not reads


def test_what_cannot_be_read_has_no_hash(tmp_path: Path) -> None:
    assert Executables().read(tmp_path / "nothing") is None
    with pytest.raises(IsADirectoryError):
        Executables().read(tmp_path)


def test_only_so_many_are_remembered(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executables, "_REMEMBERED", 2)
    known = Executables(_later)
    programs = [tmp_path / name for name in ("a", "b", "c")]
    for program in programs:
        program.write_text(program.name)
        _hash(known, program)
    # The one that was used longest ago was forgotten.
    for name in ("b", "c", "a"):
        _hash(known, tmp_path / name)
    assert reads == ["a", "b", "c", "a"]
