"""Whatever is done to a log that was written, the first bad record is named."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit.chain import Kind, Torn
from sidecar.audit.verify import Finding, Report, verify
from sidecar.errors import AuditUnreadable, InputMissing
from tests.fixtures.audit import WrittenLog

# Two files of 10 and 6 records; seals are records 5, 9 and 15, for those up to 4, 8 and 14.
LOG = WrittenLog.of(7, 4)
LINES = [line for file in LOG.files for line in file]
SPLIT = len(LOG.files[0])


def _verified(lines: list[bytes], split: int = SPLIT, anchor: bytes | None = None) -> Report:
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / "one", Path(directory) / "two"]
        paths[0].write_bytes(b"".join(lines[:split]))
        paths[1].write_bytes(b"".join(lines[split:]))
        kept = Path(directory) / "anchor"
        if anchor is not None:
            kept.write_bytes(anchor)
        return verify(paths, LOG.keys, kept if anchor is not None else None)


def _place(number: int) -> tuple[str, int]:
    return ("one", number + 1) if number < SPLIT else ("two", number - SPLIT + 1)


def _found(report: Report) -> Finding:
    assert report.finding
    return report.finding


def _named(finding: Finding, kind: Kind, number: int) -> None:
    """That it is the record with that index."""
    assert (finding.kind, finding.seq) == (kind, number + 1)
    assert (Path(finding.file).name, finding.line) == _place(number)


def test_an_untouched_log_is_proven_up_to_its_last_seal() -> None:
    report = _verified(LINES)
    assert report.finding is None
    assert (report.files, report.records, report.first, report.last) == (2, 16, 1, 16)
    assert (report.seals, report.proven, report.anchored) == (3, 14, False)


def test_an_anchored_seal_proves_all_up_to_itself() -> None:
    report = _verified(LINES, anchor=b"something else\n" + LOG.seals[-1] + b"\n")
    assert report.finding is None
    assert (report.proven, report.anchored) == (15, True)


@given(st.integers(0, len(LINES) - 1), st.data())
def test_any_changed_byte_is_named(number: int, data: st.DataObject) -> None:
    line = bytearray(LINES[number])
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] ^= data.draw(st.integers(1, 255))
    last = number in {SPLIT - 1, len(LINES) - 1} and at == len(line) - 1
    report = _verified([*LINES[:number], bytes(line), *LINES[number + 1 :]])
    finding = _found(report)
    # Without its newline, the last line of a log is one that was cut off.
    kind = Kind.TRUNCATED if last and number == len(LINES) - 1 else Kind.CHANGED
    _named(finding, kind, number)


@pytest.mark.parametrize("number", range(len(LINES)))
@pytest.mark.parametrize("by", [-1, 1, 5])
def test_a_record_under_another_number_is_changed_and_nothing_else(number: int, by: int) -> None:
    seq = b'{"seq":%d,'
    other = LINES[number].replace(seq % (number + 1), seq % max(1, number + 1 + by))
    if other != LINES[number]:
        finding = _found(_verified([*LINES[:number], other, *LINES[number + 1 :]]))
        _named(finding, Kind.CHANGED, number)


@given(st.integers(0, len(LINES) - 2))
def test_a_record_that_was_taken_out_is_named(number: int) -> None:
    # The last one of all is the anchor's affair.
    split = SPLIT - (number < SPLIT)
    finding = _found(_verified([*LINES[:number], *LINES[number + 1 :]], split))
    assert (finding.kind, finding.seq) == (Kind.MISSING, number + 1)
    expected = ("two", 1) if number == SPLIT - 1 else _place(number)
    if number:
        assert (Path(finding.file).name, finding.line) == expected


@given(st.integers(0, len(LINES) - 2))
def test_two_records_in_each_others_place_are_named(number: int) -> None:
    swapped = [*LINES[:number], LINES[number + 1], LINES[number], *LINES[number + 2 :]]
    finding = _found(_verified(swapped))
    assert finding.kind is Kind.REORDERED
    assert finding.seq == number + 1
    assert (Path(finding.file).name, finding.line) == _place(number)


@given(st.integers(0, len(LINES) - 1), st.integers(1, len(LINES)))
def test_a_record_that_is_there_twice_is_named(which: int, where: int) -> None:
    twice = [*LINES[:where], LINES[which], *LINES[where:]]
    if twice == [*LINES[: which + 1], LINES[which], *LINES[which + 1 :]]:
        where = which + 1
    split = SPLIT + (where < SPLIT)
    finding = _found(_verified(twice, split))
    assert finding.kind is Kind.REORDERED
    assert finding.seq == where + 1
    assert (Path(finding.file).name, finding.line) == (
        ("one", where + 1) if where < split else ("two", where - split + 1)
    )


@given(st.data())
def test_what_is_cut_off_in_the_middle_of_a_line_is_named(data: st.DataObject) -> None:
    whole = b"".join(LINES)
    end = data.draw(st.integers(1, len(whole) - 2).filter(lambda n: whole[n - 1 : n + 1] != b"}\n"))
    kept = whole[:end].splitlines(keepends=True)
    if kept[-1].endswith(b"\n"):
        kept.append(whole[end : end + 1])
    finding = _found(_verified(kept))
    assert finding.kind is Kind.TRUNCATED
    assert finding.seq == len(kept)


@given(st.integers(1, len(LINES) - 1))
def test_an_end_that_was_cut_off_is_named_where_an_anchor_knows_of_it(number: int) -> None:
    anchor = b"\n".join(LOG.seals)
    report = _verified(LINES[:number], anchor=anchor)
    if number >= 15:
        assert report.finding is None
        assert report.proven == 15
        return
    finding = _found(report)
    # Without any seal that is said first.
    assert finding.kind is (Kind.TRUNCATED if number > 4 else Kind.MISSING)
    assert finding.seq == number + 1
    assert not report.anchored


def test_without_an_anchor_nothing_tells_that_an_end_was_cut_off() -> None:
    report = _verified(LINES[:6])
    assert report.finding is None
    assert (report.proven, report.anchored) == (4, False)


def _rewritten(change: Callable[[WrittenLog], None], key: WrittenLog | None = None) -> WrittenLog:
    """A whole chain that fits, by somebody who has another key or none."""
    forged = WrittenLog(key=(key or WrittenLog()).key)
    forged.begin_file()
    change(forged)
    return forged


def _verify(log: WrittenLog, directory: Path, keys: WrittenLog) -> Report:
    log.write(directory)
    return verify([directory], keys.keys)


def test_a_log_that_somebody_else_sealed_is_not_ours(tmp_path: Path) -> None:
    def forge(log: WrittenLog) -> None:
        log.add("signature", key_id="0b")
        log.seal()

    finding = _found(_verify(_rewritten(forge), tmp_path, LOG))
    assert finding.kind is Kind.CHANGED
    assert finding.seq == 3
    assert "not given" in finding.detail


def test_a_seal_under_our_name_that_we_have_not_signed_is_named(tmp_path: Path) -> None:
    (ours,) = LOG.keys

    def forge(log: WrittenLog) -> None:
        log.seal(audit_key=ours)

    finding = _found(_verify(_rewritten(forge), tmp_path, LOG))
    assert "not signed by the audit key" in finding.detail


@pytest.mark.parametrize(
    ("wrong", "detail"),
    [
        ({"head": "00" * 32}, "other records"),
        ({"last": 1}, "other records"),
        ({"last": 99}, "other records"),
        ({"count": 1}, "count"),
        ({"first": 2, "count": 1}, "follow"),
        ({"previous": "11" * 32}, "follow"),
    ],
)
def test_a_seal_of_our_key_that_does_not_fit_is_named(
    tmp_path: Path, wrong: dict[str, object], detail: str
) -> None:
    log = WrittenLog()
    log.begin_file()
    log.add("signature", key_id="0a")
    log.seal(**wrong)
    finding = _found(_verify(log, tmp_path, log))
    assert (finding.kind, finding.seq, finding.line) == (Kind.CHANGED, 3, 3)
    assert detail in finding.detail


def test_a_log_without_a_seal_proves_nothing(tmp_path: Path) -> None:
    log = WrittenLog.of(2)
    finding = _found(_verify(log, tmp_path, log))
    assert finding.kind is Kind.MISSING
    assert "no seal" in finding.detail


def test_another_history_under_the_same_key_is_not_what_the_anchor_has(tmp_path: Path) -> None:
    kept = WrittenLog.of(7, 4)
    other = WrittenLog(key=kept.key)
    other.begin_file()
    for _ in range(20):
        other.add("signature", key_id="0c")
        other.seal()
    other.write(tmp_path / "log")
    anchor = tmp_path / "anchor"
    anchor.write_bytes(kept.seals[-1])
    finding = _found(verify([tmp_path / "log"], kept.keys, anchor))
    assert finding.kind is Kind.CHANGED
    assert "another seal" in finding.detail


def test_files_from_the_middle_of_a_log_are_proven_by_themselves(tmp_path: Path) -> None:
    _, second = LOG.write(tmp_path)
    report = verify([second], LOG.keys)
    assert report.finding is None
    assert (report.first, report.last, report.proven) == (11, 16, 14)


def test_a_file_that_is_missing_between_others_is_named(tmp_path: Path) -> None:
    log = WrittenLog.of(3, 3, 3)
    paths = log.write(tmp_path)
    paths[1].unlink()
    finding = _found(verify([tmp_path], log.keys))
    assert (finding.kind, finding.seq, finding.line) == (Kind.MISSING, 6, 1)
    assert Path(finding.file) == paths[2]


def test_a_line_that_a_crash_cut_off_is_no_bad_record_once_a_later_one_says_so(
    tmp_path: Path,
) -> None:
    log = WrittenLog.of(3)
    cut = b'{"seq":6,"time":"20'
    log.files[-1].append(cut)
    assert _found(_verify(log, tmp_path / "before", log)).kind is Kind.TRUNCATED
    torn = Torn("", 0, cut).facts()
    log.begin_file([torn])
    log.seal()
    report = _verify(log, tmp_path / "after", log)
    assert report.finding is None
    assert [(each.line, each.raw) for each in report.torn] == [(6, cut)]
    log.files[0][-1] = cut[:-1]
    assert _found(_verify(log, tmp_path / "shorter", log)).kind is Kind.CHANGED
    del log.files[0][-1]
    finding = _found(_verify(log, tmp_path / "gone", log))
    assert (finding.kind, finding.seq) == (Kind.MISSING, 6)


def test_a_last_record_that_lacks_only_its_newline_is_a_record(tmp_path: Path) -> None:
    log = WrittenLog.of(3)
    log.files[0][-1] = log.files[0][-1].removesuffix(b"\n")
    assert _verify(log, tmp_path, log).finding is None


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"nothing of it", "no seal is in there"), (WrittenLog.of(3).seals[0], "not given")],
)
def test_an_anchor_that_is_none_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    paths = LOG.write(tmp_path)
    anchor = tmp_path / "anchor"
    anchor.write_bytes(content)
    with pytest.raises(AuditUnreadable, match=told):
        verify(paths, LOG.keys, anchor)


def test_what_is_not_there_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="no file of an audit log"):
        verify([tmp_path], LOG.keys)
    with pytest.raises(InputMissing, match="No such file"):
        verify([tmp_path / "none"], LOG.keys)
    with pytest.raises(InputMissing, match="No such file"):
        verify(LOG.write(tmp_path), LOG.keys, tmp_path / "none")
