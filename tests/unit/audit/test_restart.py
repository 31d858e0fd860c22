"""What an earlier process left, and the directory that it left it in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.audit.chain import Kind
from sidecar.audit.files import LogDirectory, append_line, files_in
from sidecar.audit.recovery import recover
from sidecar.errors import ConfigurationError
from tests.unit.audit.conftest import Auditing, request


async def test_a_restart_goes_on_with_chain_seals_and_key(auditing: Auditing) -> None:
    for _ in range(3):
        log = await auditing.start()
        log.record("start")
        await log.flush()
        await request(log)
        await auditing.stop()
    report = auditing.verified()
    assert report.finding is None
    assert (report.files, report.seals, report.records) == (3, 3, 12)
    assert len(auditing.token.held_keys) == 1


async def test_a_restart_after_a_crash_seals_what_was_not_sealed(auditing: Auditing) -> None:
    log = await auditing.start()
    await request(log)
    await auditing.stop()
    for _ in range(2):
        log = await auditing.start()
        await request(log)
        await auditing.end()
    await auditing.start()
    auditing.log.record("start")
    await auditing.stop()
    report = auditing.verified()
    assert report.finding is None
    assert report.proven == report.last - 1


async def test_a_line_that_a_crash_cut_off_is_recorded_and_stays(auditing: Auditing) -> None:
    log = await auditing.start()
    await request(log)
    await auditing.stop()
    (file,) = files_in(auditing.path)
    with file.open("ab") as tail:
        tail.write(b'{"seq":4,"ti')
    await auditing.start()
    auditing.log.record("start")
    await auditing.stop()
    report = auditing.verified()
    assert report.finding is None
    assert [(torn.line, torn.raw) for torn in report.torn] == [(4, b'{"seq":4,"ti')]


async def test_a_file_that_a_crash_left_with_half_a_line_is_followed_by_another(
    auditing: Auditing,
) -> None:
    auditing.path.mkdir(mode=0o750)
    (auditing.path / "audit-000000000001.jsonl").write_bytes(b'{"se')
    await auditing.start()
    auditing.log.record("start")
    await auditing.stop()
    assert [file.name for file in files_in(auditing.path)] == [
        *("audit-000000000001.jsonl", "audit-000000000001.1.jsonl")
    ]
    assert auditing.verified().finding is None


async def test_damage_is_found_at_the_start_and_not_written_over(auditing: Auditing) -> None:
    log = await auditing.start()
    for _ in range(3):
        await request(log)
    await auditing.stop()
    (file,) = files_in(auditing.path)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    damage = recover(auditing.path).damage
    assert damage
    assert (damage.kind, damage.line) == (Kind.MISSING, 3)
    before = file.read_bytes()
    await auditing.start()
    auditing.log.record("start")
    await auditing.stop()
    assert file.read_bytes() == before
    assert len(files_in(auditing.path)) == 2
    finding = auditing.verified().finding
    assert finding
    assert (finding.kind, finding.line) == (Kind.MISSING, 3)


# The directory


def test_one_process_writes_a_log(tmp_path: Path) -> None:
    first = LogDirectory(tmp_path / "audit")
    with pytest.raises(ConfigurationError, match="another process writes there"):
        LogDirectory(tmp_path / "audit")
    first.close()
    LogDirectory(tmp_path / "audit").close()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: (path.mkdir(), path.chmod(0o770)), "chmod 0750"),
        (lambda path: path.write_bytes(b""), "exists"),
        (lambda path: path.symlink_to("/tmp"), "no directory of its own"),
    ],
)
def test_a_directory_that_others_can_write_is_refused(
    tmp_path: Path, make: Callable[[Path], object], told: str
) -> None:
    make(tmp_path / "audit")
    with pytest.raises(ConfigurationError, match=told):
        LogDirectory(tmp_path / "audit")


def test_an_anchor_is_never_a_link(tmp_path: Path) -> None:
    (tmp_path / "anchor").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        append_line(tmp_path / "anchor", b"{}")
