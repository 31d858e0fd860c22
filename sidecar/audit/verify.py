"""Checks files of an audit log: names the first bad record, and says how much is proven."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sidecar.audit.chain import BadRecord, Chain, Kind, Torn
from sidecar.audit.files import Line, files_in, lines_of
from sidecar.audit.record import Record
from sidecar.audit.seal import SEAL, Seal, require_signed
from sidecar.core.public_key import PublicKey
from sidecar.errors import AuditUnreadable, InputMissing


@dataclass(frozen=True)
class Finding:
    """The first bad record."""

    kind: Kind
    file: str
    line: int
    seq: int
    detail: str


@dataclass(frozen=True)
class Report:
    """What was found. Without a finding, all records up to `proven` are as they were written."""

    files: int
    records: int
    first: int
    last: int
    seals: int
    # The last record that a seal covers or, with an anchor, that the anchored seal stands for.
    proven: int
    # Whether a seal that was kept elsewhere is in these files: nothing before it was cut off.
    anchored: bool
    torn: Sequence[Torn]
    finding: Finding | None


def verify(
    paths: Iterable[Path], keys: Mapping[str, PublicKey], anchor: Path | None = None
) -> Report:
    """Reads `paths`, files or directories, as one log; `keys` are by `key_hash`. Blocks.

    Raises:
        InputMissing: a file cannot be read, or a directory has none.
        AuditUnreadable: the anchor holds no seal of these keys.
    """
    files = _files(paths)
    anchors = _anchors(anchor, keys) if anchor else []
    chain = Chain(keys)
    finding = None
    try:
        for file in files:
            chain.follow(str(file), _lines(file))
        chain.finish()
        _require_sealed(chain)
        for each in anchors:
            _require_anchored(chain, each)
    except BadRecord as bad:
        finding = _named(bad, files)
    proven = max([chain.sealed, *(each.seq for each in anchors if not finding)])
    return Report(
        files=len(files),
        records=chain.records,
        first=chain.first,
        last=chain.link.seq,
        seals=chain.seal_count,
        proven=proven,
        anchored=bool(anchors) and finding is None,
        torn=chain.torn,
        finding=finding,
    )


def _files(paths: Iterable[Path]) -> Sequence[Path]:
    files: list[Path] = []
    for path in paths:
        try:
            found = files_in(path) if path.is_dir() else [path]
        except OSError as error:
            raise InputMissing(f"{path}: {error.strerror}") from error
        if not found:
            raise InputMissing(f"{path}: no file of an audit log is in there")
        files += found
    return files


def _lines(file: Path) -> Iterable[Line]:
    try:
        yield from lines_of(file)
    except OSError as error:
        raise InputMissing(f"{file}: {error.strerror}") from error


def _require_sealed(chain: Chain) -> None:
    if not chain.seal_count:
        raise BadRecord(
            Kind.MISSING, *chain.place, chain.link.seq + 1, "no seal is there: nothing is proven"
        )


def _require_anchored(chain: Chain, anchor: Record) -> None:
    """That the files have this very seal."""
    if anchor.seq < chain.first or chain.seals.get(anchor.seq) == anchor.chain:
        return
    file, line = chain.place
    if anchor.seq > chain.link.seq:
        raise BadRecord(
            Kind.TRUNCATED,
            file,
            line + 1,
            chain.link.seq + 1,
            f"the log goes on to record {anchor.seq} at least, says the anchor",
        )
    raise BadRecord(
        Kind.CHANGED, file, line, anchor.seq, "the anchor has another seal in its place"
    )


def _anchors(path: Path, keys: Mapping[str, PublicKey]) -> Sequence[Record]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputMissing(f"{path}: {error.strerror}") from error
    # Other lines may be among them: of a container's standard output, for one.
    records = [Record.parse(line) for line in raw.splitlines()]
    seals = [record for record in records if record and record.event == SEAL]
    if not seals:
        raise AuditUnreadable(f"{path}: no seal is in there")
    for record in seals:
        try:
            seal, signature = Seal.parse(record.facts())
            require_signed(seal, signature, keys)
        except ValueError as error:
            raise AuditUnreadable(f"{path}, seal in record {record.seq}: {error}") from error
    return seals


def _named(bad: BadRecord, files: Sequence[Path]) -> Finding:
    finding = Finding(bad.kind, bad.file, bad.line, bad.seq, bad.detail)
    if bad.kind is Kind.MISSING and (place := _elsewhere(bad, files)):
        return replace(
            finding, kind=Kind.REORDERED, detail=f"{bad.detail}; the missing one is at {place}"
        )
    return finding


def _elsewhere(bad: BadRecord, files: Sequence[Path]) -> str | None:
    """Where the record of that number stands instead."""
    start = b'{"seq":%d,' % bad.seq
    for file in files:
        for line in lines_of(file):
            here = (str(file), line.number) == (bad.file, bad.line)
            if line.raw.startswith(start) and not here:
                return f"{file}:{line.number}"
    return None
