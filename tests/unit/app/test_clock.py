"""The clocks of a process are those of the kernel."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidecar.app import clock


def test_the_boot_clock_is_the_one_that_a_suspended_machine_does_not_stop() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    seen = clock.reading()
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    microsecond = timedelta(microseconds=1)
    assert timedelta(seconds=before) - microsecond <= seen.boot
    assert seen.boot <= timedelta(seconds=after) + microsecond
    assert seen.wall <= datetime.now(UTC)


def test_a_boot_is_told_by_the_kernels_identifier_and_the_time_namespace() -> None:
    booted = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    assert clock.boot_id().split()[0] == booted
    namespace = Path("/proc/self/ns/time")
    told = clock.boot_id().split()[1:]
    assert told == ([str(namespace.readlink())] if namespace.is_symlink() else [])


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"])
def test_a_boot_that_cannot_be_told_has_no_identifier(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "boot_id"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(clock, "_BOOT_ID", file)
    assert clock.boot_id() == ""


def test_a_kernel_without_time_namespaces_has_boots_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(clock, "_TIME_NAMESPACE", tmp_path / "missing")
    assert len(clock.boot_id()) == 36
