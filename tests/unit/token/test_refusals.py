"""What is remembered of a refused PIN, and where."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.core.token_selector import TokenSelector
from sidecar.errors import ConfigurationError, PinRefused
from sidecar.token.pin import Pin
from sidecar.token.pin_sources import GivenPin, PinFile
from sidecar.token.refusals import Refusals, fingerprint
from sidecar.token.sealed_pin import SealedPin


def _open(directory: Path) -> Refusals:
    return Refusals.open(
        directory,
        Path("/module.so"),
        TokenSelector(label="mesh"),
        lambda: datetime(2030, 1, 1, tzinfo=UTC),
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "pin"
    made.write_text("zq7x", encoding="utf-8")
    return made


def test_the_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    _open(tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    _open(tmp_path / "state")


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o701, 0o777])
def test_a_directory_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    with pytest.raises(ConfigurationError, match=r"token.state .* is open to others; chmod 0700"):
        _open(tmp_path / "state")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    os.chown(tmp_path / "state", 65534, 65534)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        _open(tmp_path / "state")


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name, message in (
        ("file", "File exists"),
        ("link", "is no directory of its own"),
        ("gone/state", "No such file or directory"),
    ):
        with pytest.raises(ConfigurationError, match=f"token.state .*{name}.*{message}"):
            _open(tmp_path / name)


def test_a_fingerprint_changes_with_the_file_and_only_then(file: Path) -> None:
    source = PinFile(file)
    before = fingerprint(source)
    assert fingerprint(source) == before
    os.utime(file, ns=(0, 0))
    touched = fingerprint(source)
    assert touched != before
    file.write_text("zq7x longer", encoding="utf-8")
    os.utime(file, ns=(0, 0))
    assert fingerprint(source) not in (before, touched)
    file.unlink()
    assert fingerprint(source) == ["missing"]


def test_a_fingerprint_holds_nothing_of_the_pin(file: Path) -> None:
    before = fingerprint(PinFile(file))
    times = file.stat()
    file.write_text("x7qz", encoding="utf-8")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint(PinFile(file)) == before
    assert fingerprint(GivenPin("test", Pin("zq7x"))) == ["test"]


def test_a_sealed_pins_fingerprint_is_that_of_both_files(tmp_path: Path) -> None:
    (tmp_path / "p.pub").touch()
    source = SealedPin(tmp_path / "p")
    assert fingerprint(source)[1] == "missing"
    assert fingerprint(source)[0] != "missing"


def test_refusals_are_counted_and_cleared(tmp_path: Path, file: Path) -> None:
    refusals, source = _open(tmp_path / "state"), PinFile(file)
    refusals.check(source)
    refusals.add(source, ["another"])
    refusals.check(source)
    refusals.add(source, ["yet another"])
    with pytest.raises(PinRefused, match="refused 2 PINs in a row, the last one at 2030-01-01T"):
        refusals.check(source)
    refusals.clear()
    refusals.clear()
    refusals.check(source)


def test_a_refusal_is_on_disk_before_anything_else_is_tried(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().suffix)
    )
    _open(tmp_path / "state").add(PinFile(file), ["another"])
    assert synced == [".new", ""]


_DAMAGE = st.binary(max_size=60) | st.sampled_from(
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"time": 1, "count": 1, "source": "s", "fingerprint": []}',
        b'{"time": "t", "count": "2", "source": "s", "fingerprint": []}',
        b'{"time": "t", "count": 1, "source": "s", "fingerprint": null}',
        b'{"time": "t", "count": 1, "source": "s", "fingerprint": [], "more": 1}',
        b"[" * 5_000,
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=_DAMAGE)
def test_a_memory_that_cannot_be_read_allows_nothing(
    tmp_path: Path, file: Path, content: bytes
) -> None:
    refusals = _open(tmp_path / "state")
    refusals.file.write_bytes(content)
    with pytest.raises(PinRefused, match=r"cannot be read \(.*then remove that file"):
        refusals.check(PinFile(file))
