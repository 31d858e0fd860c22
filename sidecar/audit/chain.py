"""Follows a chain through its files, record by record, seal by seal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Any

from sidecar.audit.files import Line
from sidecar.audit.record import Link, Record
from sidecar.audit.seal import NO_SEAL, SEAL, Seal, require_signed
from sidecar.core.public_key import PublicKey

# The first record of every file: which chain it goes on with, and what torn lines it found.
OPENED = "opened"
_NOTHING = Link().chain.hex()


class Kind(Enum):
    """What is wrong with a record."""

    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    TRUNCATED = "truncated"


class BadRecord(Exception):
    """The first record that is not what was written."""

    def __init__(self, kind: Kind, file: str, line: int, seq: int, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.file = file
        self.line = line
        # Of the record that should be there.
        self.seq = seq
        self.detail = detail


@dataclass(frozen=True)
class Torn:
    """A line that a crash or a full disk cut off: no record, and no trace of one removed."""

    file: str
    line: int
    raw: bytes

    def facts(self) -> dict[str, str | int]:
        """As the next file's first record has it."""
        return {"bytes": len(self.raw), "sha256": sha256(self.raw).hexdigest()}


class Chain:
    """What was followed so far. Feed it files in their order.

    With no `keys`, seals are compared with the chain, and their signatures with nothing.
    """

    def __init__(self, keys: Mapping[str, PublicKey] | None = None) -> None:
        self.link = Link()
        self.records = 0
        # The first record's number; 0 before there is one.
        self.first = 0
        # The last record that a seal covers.
        self.sealed = 0
        # The record of each seal, by its number; only where keys are given.
        self.seals: dict[int, bytes] = {}
        self.seal_count = 0
        self.last_seal = NO_SEAL
        # Cut-off lines that no record speaks of yet, and all those that one does.
        self.pending: list[Torn] = []
        self.torn: list[Torn] = []
        self._keys = keys
        # Chain values that the next seal may name.
        self._heads: deque[tuple[int, bytes]] = deque()
        # The file and line that were read last.
        self.place = ("", 0)

    def follow(self, file: str, lines: Iterable[Line]) -> None:
        """Raises `BadRecord`, without a look at what comes after it."""
        opened = False
        for line in lines:
            self.place = (file, line.number)
            record = Record.parse(line.raw)
            if not opened and record:
                self._open(record)
                opened = True
            if record and record.follows(self.link):
                self._accept(record)
            elif line.ended:
                self._raise(record)
            else:
                self.pending.append(Torn(file, line.number, line.raw))

    def finish(self) -> None:
        """After the last file. Raises `BadRecord`."""
        if self.pending:
            torn = self.pending[0]
            raise BadRecord(
                Kind.TRUNCATED,
                torn.file,
                torn.line,
                self.link.seq + 1,
                f"the line is cut off after {len(torn.raw)} bytes",
            )

    def _open(self, record: Record) -> None:
        """The first line of a file, if it has the form of a record."""
        if not self.records and record.event == OPENED:
            # Where the files given begin; whether it is the beginning, the report says.
            previous = _facts(record).get("previous")
            if isinstance(previous, str) and len(previous) == len(_NOTHING):
                # Nothing before it: then it is record 1, whatever it says.
                before = 0 if previous == _NOTHING else record.seq - 1
                self.link = Link(before, _hexadecimal(previous))
                self.first = before + 1
        elif not self.records and record.seq > 1:
            self.link = Link(record.seq - 2)
            self._bad(Kind.MISSING, "the file does not begin with its first record")
        if record.follows(self.link):
            self._settle_torn(record)

    def _settle_torn(self, record: Record) -> None:
        said = _facts(record).get("torn", [])
        if [torn.facts() for torn in self.pending] != said:
            if not self.pending:
                self._bad(Kind.MISSING, "a cut-off line that this record speaks of is missing")
            torn = self.pending[0]
            self.place = (torn.file, torn.line)
            self._bad(Kind.CHANGED, "this line is no record, and no later one says that it is torn")
        self.torn += self.pending
        self.pending = []

    def _accept(self, record: Record) -> None:
        self.link = Link(record.seq, record.chain)
        self.records += 1
        self._heads.append((record.seq, record.chain))
        if record.event == SEAL:
            self._accept_seal(record)

    def _accept_seal(self, record: Record) -> None:
        try:
            seal, signature = Seal.parse(_facts(record))
            self._compare(seal)
            if self._keys is not None:
                require_signed(seal, signature, self._keys)
        except ValueError as error:
            self._bad(
                Kind.CHANGED,
                f"{error}; something in records {self.sealed + 1} to {record.seq} was changed",
                seq=record.seq,
            )
        self.sealed = seal.last
        self.last_seal = record.chain.hex()
        self.seal_count += 1
        if self._keys is not None:
            self.seals[record.seq] = record.chain
        while self._heads and self._heads[0][0] <= seal.last:
            self._heads.popleft()

    def _compare(self, seal: Seal) -> None:
        heads = dict(self._heads)
        if seal.last not in heads or heads[seal.last].hex() != seal.head:
            raise ValueError("the seal is for other records")
        if seal.count != seal.last - seal.first + 1:
            raise ValueError("the seal's count is not that of its records")
        # Of files from the middle of a log, the first seal is for records before them too.
        known = self.seal_count or self.first == 1
        if known and (seal.previous != self.last_seal or seal.first != self.sealed + 1):
            raise ValueError("the seal does not follow the one before it")

    def _raise(self, record: Record | None) -> None:
        expected = self.link.seq + 1
        if record is None:
            self._bad(Kind.CHANGED, "this line is no record")
        elif record.seq == expected:
            self._bad(Kind.CHANGED, "its bytes are not those that its chain value is for")
        elif record.follows_under_another_number(self.link):
            self._bad(Kind.CHANGED, f"its number was {expected}")
        elif record.seq < expected:
            self._bad(Kind.REORDERED, f"here stands record {record.seq}, which was before it")
        else:
            self._bad(Kind.MISSING, f"here stands record {record.seq}")

    def _bad(self, kind: Kind, detail: str, seq: int = 0) -> None:
        raise BadRecord(kind, *self.place, seq or self.link.seq + 1, detail)


def _facts(record: Record) -> Mapping[str, Any]:
    try:
        return record.facts()
    except ValueError:
        return {}


def _hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return bytes(32)
