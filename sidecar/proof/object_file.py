"""SoftHSM2's object files: the attributes of one token object, as they lie on disk.

Layout (SoftHSM2 2.6.1, src/lib/object_store/ObjectFile.cpp and File.cpp); every
number is 8 octets, big-endian:

    generation, then for each attribute: type, kind, value

    kind 1  boolean        1 octet, 0x00 is false
    kind 2  number         8 octets
    kind 3  octets         a length in octets, then as many octets
    kind 4  attribute map  a length in octets, then as many octets
    kind 5  mechanism set  a count, then as many numbers
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Final

from sidecar.errors import TokenError

Attributes = dict[int, bool | int | bytes]

_NUMBER: Final = 8


class NotAnObjectFile(TokenError):
    """The file or directory is not what SoftHSM2's file store writes."""


def read(path: Path) -> Attributes:
    """The attributes in the object file at `path`. Blocks while SoftHSM2 writes it.

    Closing the file drops every POSIX lock that this process has on it (fcntl(2)),
    so this is for a process that has not loaded SoftHSM2 itself.

    Raises `NotAnObjectFile`, or `OSError` when the file cannot be read.
    """
    with path.open("rb") as stream:
        # SoftHSM2 truncates a file and then rewrites it, under an fcntl lock.
        fcntl.lockf(stream, fcntl.LOCK_SH)
        content = stream.read()
    try:
        return parse(content)
    except NotAnObjectFile as error:
        raise NotAnObjectFile(f"{path} is not an object file of SoftHSM2: {error}") from None


def parse(content: bytes) -> Attributes:
    """The booleans, numbers and octet strings in `content`, by attribute type.

    Octet strings of a private object come as stored, encrypted. Mechanism sets and
    attribute maps are stepped over. An empty file is an object without attributes:
    SoftHSM2 creates the file first and fills it later.

    Raises `NotAnObjectFile`.
    """
    attributes: Attributes = {}
    if not content:
        return attributes
    cursor = _Cursor(content)
    cursor.number()  # the generation, which only tells SoftHSM2 when to read again
    while not cursor.at_end:
        attribute_type = cursor.number()
        value = _value(cursor, kind=cursor.number())
        if value is not None:
            attributes[attribute_type] = value
    return attributes


def _value(cursor: _Cursor, kind: int) -> bool | int | bytes | None:
    match kind:
        case 1:
            return cursor.octets(1) != b"\0"
        case 2:
            return cursor.number()
        case 3:
            return cursor.octets(cursor.number())
        case 4:
            cursor.octets(cursor.number())
        case 5:
            cursor.octets(cursor.number() * _NUMBER)
        case _:
            raise NotAnObjectFile(f"unknown attribute kind {kind}")
    return None


class _Cursor:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._content)

    def number(self) -> int:
        return int.from_bytes(self.octets(_NUMBER), "big")

    def octets(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._content):
            raise NotAnObjectFile(f"it ends in the middle of an attribute, at octet {end}")
        taken = self._content[self._position : end]
        self._position = end
        return taken
