"""From an event to its line, and from there to a signature that may leave."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar.audit.base import SIGNED
from sidecar.audit.files import files_in, write_all
from sidecar.audit.sealing import Interval
from sidecar.audit.writer import Rotation
from sidecar.errors import AuditUnavailable, SignerBusy
from tests.fixtures.waiting import BOUND_S, settle, soon
from tests.unit.audit.conftest import ASKED, Auditing, request


class _Full:
    """A disk that takes so many bytes of a write and then none."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.full = True

    def __call__(self, file: int, content: bytes) -> None:
        if self.full:
            os.write(file, content[: self.room])
            raise OSError(errno.ENOSPC, "No space left on device")
        write_all(file, content)


async def test_a_signature_may_leave_once_its_record_is_in_the_file(auditing: Auditing) -> None:
    seen: list[list[str]] = []
    log = await auditing.start()
    log.request(ASKED, SIGNED, lambda error: seen.append([*auditing.events(), str(error)]))
    await soon(lambda: seen)
    assert seen == [["opened", "signature", "None"]]
    await auditing.stop()


async def test_nothing_is_answered_while_the_disk_takes_its_time(auditing: Auditing) -> None:
    began, released = threading.Event(), threading.Event()

    def slow(file: int, content: bytes) -> None:
        began.set()
        assert released.wait(BOUND_S)
        write_all(file, content)

    auditing.write = slow
    log = await auditing.start()
    told: list[object] = []
    log.request(ASKED, SIGNED, told.append)
    await soon(began.is_set)
    await settle()  # the loop turns
    assert not told
    released.set()
    await soon(lambda: told)
    await auditing.stop()


async def test_what_comes_while_the_disk_is_busy_is_one_write(auditing: Auditing) -> None:
    began, released, writes = threading.Event(), threading.Event(), list[int]()

    def slow(file: int, content: bytes) -> None:
        writes.append(content.count(b"\n"))
        began.set()
        assert released.wait(BOUND_S)
        write_all(file, content)

    auditing.write = slow
    log = await auditing.start()
    log.record("start")
    await soon(began.is_set)
    for _ in range(50):
        log.record("key born")
        await settle()
    released.set()
    await log.flush()
    assert writes == [1, 1, 50]
    await auditing.stop()


async def test_more_than_may_wait_is_told_to_come_back(auditing: Auditing) -> None:
    released = threading.Event()

    def hold(file: int, content: bytes) -> None:
        assert released.wait(BOUND_S)
        write_all(file, content)

    auditing.write = hold
    log = await auditing.start()
    for _ in range(8192):
        log.require_room()
        log.record("key born")
    with pytest.raises(SignerBusy, match="8192 records wait"):
        log.require_room()
    released.set()
    await log.flush()
    log.require_room()
    await auditing.stop()


async def test_a_log_that_was_stopped_is_sealed_to_its_end(auditing: Auditing) -> None:
    log = await auditing.start()
    log.record("start")
    log.record("stop")
    await auditing.stop()
    report = auditing.verified()
    assert report.finding is None
    assert auditing.events() == ["opened", "start", "stop", "seal"]
    assert report.proven == 3


async def test_a_seal_is_made_after_so_many_records_and_anchored(
    auditing: Auditing, tmp_path: Path
) -> None:
    anchor = tmp_path / "anchor"
    auditing.anchor, auditing.interval = str(anchor), Interval(5, timedelta(hours=1))
    log = await auditing.start()
    for _ in range(12):
        await request(log)
    await soon(lambda: auditing.counts.seals >= 2)
    await auditing.end()
    report = auditing.verified(anchor)
    assert report.finding is None
    assert report.anchored
    assert report.proven >= 10
    seals = [record.raw for record in auditing.records() if record.event == "seal"]
    assert anchor.read_bytes().splitlines() == seals


async def test_a_seal_is_made_after_a_while_and_none_for_nothing(auditing: Auditing) -> None:
    auditing.interval = Interval(1000, timedelta(milliseconds=1))
    log = await auditing.start()
    log.record("start")
    await soon(lambda: auditing.counts.seals == 1)
    for _ in range(10):
        await settle()
    log.record("key born")
    await soon(lambda: auditing.counts.seals == 2)
    await auditing.end()
    assert auditing.events() == ["opened", "start", "seal", "key born", "seal"]


async def test_an_end_that_comes_with_a_record_is_not_lost(auditing: Auditing) -> None:
    log = await auditing.start()
    log.record("start")
    await log.flush()
    # It waits for more until the seal is due.
    await soon(lambda: auditing.sealer._unsealed and log.news._waiters)
    log.news.set()
    await asyncio.sleep(0)
    auditing.sealing.cancel()
    await asyncio.wait([auditing.sealing], timeout=BOUND_S)
    assert auditing.sealing.cancelled()
    await auditing.stop()


async def test_an_end_in_the_middle_of_a_seal_is_followed_by_one_that_fits(
    auditing: Auditing,
) -> None:
    began, released = threading.Event(), threading.Event()

    def slow(file: int, content: bytes) -> None:
        if b'"event":"seal"' in content:
            began.set()
            assert released.wait(BOUND_S)
        write_all(file, content)

    auditing.write, auditing.interval = slow, Interval(1, timedelta(hours=1))
    log = await auditing.start()
    log.record("start")
    await soon(began.is_set)
    log.record("stop")
    auditing.sealing.cancel()
    await settle()
    released.set()
    await auditing.stop()
    assert auditing.events() == ["opened", "start", "seal", "stop", "seal"]
    assert auditing.verified().finding is None


async def test_a_token_that_is_away_delays_a_seal(auditing: Auditing) -> None:
    auditing.interval = Interval(1, timedelta(milliseconds=1))
    log = await auditing.start()
    auditing.token.available = False
    with capture_logs() as logs:
        log.record("start")
        await soon(lambda: auditing.counts.seals_failed > 0)
    assert "audit log not sealed" in [entry["event"] for entry in logs]
    auditing.token.available = True
    await soon(lambda: auditing.counts.seals > 0)
    await auditing.end()
    assert auditing.verified().finding is None


@pytest.mark.parametrize("room", [0, 20, 300])
async def test_when_the_disk_is_full_signatures_leave_without_records_and_that_is_recorded(
    auditing: Auditing, room: int
) -> None:
    log = await auditing.start()
    await request(log)
    disk = _Full(room)
    auditing.write = disk
    with capture_logs() as logs:
        for _ in range(3):
            assert await request(log) == [None]
            log.require_room()
    assert [entry["event"] for entry in logs] == ["audit log not written"]
    assert logs[0]["log_level"] == "critical"
    assert auditing.counts.lost == 3
    disk.full = False
    await request(log)
    await auditing.stop()
    assert auditing.events() == [*("opened", "signature", "log interrupted", "signature", "seal")]
    assert auditing.records()[2].facts()["lost"] == 3
    assert auditing.verified().finding is None


async def test_where_that_is_wanted_nothing_leaves_without_a_record(auditing: Auditing) -> None:
    auditing.strict = True
    log = await auditing.start()
    await request(log)
    disk = _Full()
    auditing.write = disk
    (told,) = await request(log)
    assert "No space left" in str(told)
    with pytest.raises(AuditUnavailable, match="cannot be written"):
        log.require_room()
    # Nobody asks any more, and it goes on by itself when there is room.
    disk.full = False
    await soon(lambda: "log interrupted" in auditing.events())
    await soon(lambda: not log._error)
    log.require_room()
    assert await request(log) == [None]
    await auditing.stop()
    assert auditing.verified().finding is None


async def test_a_start_on_a_full_disk_goes_on_when_there_is_room(auditing: Auditing) -> None:
    disk = _Full(10)
    auditing.write = disk
    log = await auditing.start()
    assert await request(log) == [None]
    assert files_in(auditing.path) == []
    disk.full = False
    await request(log)
    await auditing.stop()
    assert auditing.events() == ["opened", "log interrupted", "signature", "seal"]


async def test_a_file_that_cannot_be_cut_back_is_written_no_more(
    auditing: Auditing, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await auditing.start()
    await request(log)
    disk = _Full(20)
    auditing.write = disk

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "ftruncate", refuse)
    await request(log)
    disk.full = False
    await request(log)
    assert auditing.counts.lost == 2
    await auditing.end()
    # The next start says what it found.
    await auditing.start()
    auditing.log.record("start")
    await auditing.stop()
    report = auditing.verified()
    assert report.finding is None
    assert [len(torn.raw) for torn in report.torn] == [20]


async def test_a_failure_to_make_a_seal_durable_is_counted(
    auditing: Auditing, tmp_path: Path
) -> None:
    auditing.anchor = str(tmp_path / "none" / "anchor")
    log = await auditing.start()
    log.record("start")
    await auditing.stop()
    assert auditing.counts.not_durable == 1


@pytest.mark.parametrize("by", ["size", "age"])
async def test_a_new_file_goes_on_with_the_chain(auditing: Auditing, by: str) -> None:
    auditing.rotation = Rotation(1 if by == "size" else 1 << 20, 60)
    log = await auditing.start()
    for _ in range(4):
        await request(log)
        if by == "age":
            auditing.clock.advance(timedelta(seconds=60))
    await auditing.stop()
    report = auditing.verified()
    assert report.finding is None
    assert report.files == 4 + (by == "age") + (by == "size")
    names = [file.name for file in files_in(auditing.path)]
    assert names[:3] == [f"audit-{seq:012d}.jsonl" for seq in (1, 3, 5)]


async def test_a_file_is_for_its_owner_to_write_and_for_its_group_to_read(
    auditing: Auditing,
) -> None:
    log = await auditing.start()
    await request(log)
    await auditing.stop()
    (file,) = files_in(auditing.path)
    assert file.stat().st_mode & 0o777 == 0o640
