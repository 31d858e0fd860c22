"""TLS's presentation language (RFC 5246 section 4.3, RFC 8446 section 3.4), read strictly."""

from __future__ import annotations

import struct


class Reader:
    """Reads one structure from its first byte to its last. Every failure is a `ValueError`."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._at = 0
        # What the messages call the structure.
        self._name = name

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        end = self._at + length
        if end > len(self._data):
            raise ValueError(f"the {self._name} is cut short")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, length: int) -> int:
        """An unsigned integer of `length` bytes."""
        return int.from_bytes(self.take(length))

    def vector(self, length_bytes: int, *, least: int = 0) -> bytes:
        """The content of a vector whose length is in the next `length_bytes` bytes."""
        length = self.number(length_bytes)
        if length < least:
            raise ValueError(f"the {self._name} has a list of {length} bytes, at least {least}")
        return self.take(length)

    def is_next(self, byte: int) -> bool:
        """Whether the next byte is `byte`; it stays unread."""
        return self._data[self._at : self._at + 1] == bytes([byte])

    @property
    def has_more(self) -> bool:
        return self._at < len(self._data)

    def end(self) -> None:
        """Raises unless everything was read."""
        if left := len(self._data) - self._at:
            raise ValueError(f"{left} bytes follow the {self._name}")


def vector(data: bytes, length_bytes: int) -> bytes:
    """`data` after its length."""
    return len(data).to_bytes(length_bytes) + data


def numbers(data: bytes, name: str) -> tuple[int, ...]:
    """A list of 16-bit integers, which `data` is to the last byte."""
    if len(data) % 2:
        raise ValueError(f"the {name} is cut short")
    return struct.unpack(f">{len(data) // 2}H", data)


def listed(values: tuple[int, ...]) -> bytes:
    """What `numbers` reads, without its length."""
    return struct.pack(f">{len(values)}H", *values)


def vectors(data: bytes, name: str, length_bytes: int) -> tuple[bytes, ...]:
    """A list of vectors, none of them empty, which `data` is to the last byte."""
    reader = Reader(data, name)
    found = []
    while reader.has_more:
        found.append(reader.vector(length_bytes, least=1))
    return tuple(found)
