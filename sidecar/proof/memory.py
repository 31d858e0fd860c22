"""Searches the memory of a process, through /proc/<pid>/maps and /proc/<pid>/mem (proc(5))."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidecar.errors import MeshkeyError
from sidecar.proof.needles import Needle

# Measured best: 500 MB/s for 8 needles on 2 shared cores, 4 MiB was a quarter slower.
_CHUNK: Final = 1 << 20
_PAGE: Final = mmap.PAGESIZE

# The kernel's own pages, the same in every process; /proc/<pid>/mem does not give them.
_KERNEL_PAGES: Final = frozenset({"[vvar]", "[vvar_vclock]", "[vsyscall]"})


class MemoryUnreadable(MeshkeyError):
    """The memory could not be searched, so nothing is known about what it holds."""


@dataclass(frozen=True, slots=True)
class Region:
    """A mapping with the addresses `start` <= a < `end`; `name` as in /proc/<pid>/maps."""

    start: int
    end: int
    readable: bool
    name: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A needle that was found: its first address, and the mapping that its last octet is in."""

    needle: str
    address: int
    mapping: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What a search found, and how much it saw.

    `unreadable` are the mappings that their permissions call readable but of which
    not one page was (vanished meanwhile, a device's, secret memory).
    `octets_unreadable` counts all octets that should have been seen and were not:
    theirs, and those of single pages elsewhere (a file shorter than its mapping).
    """

    hits: tuple[Hit, ...]
    octets_scanned: int
    octets_unreadable: int
    mappings_read: int
    unreadable: tuple[Region, ...]


def scan(pid: int, needles: Iterable[Needle]) -> Scan:
    """Searches every readable mapping of the process `pid` for `needles`.

    The process runs on meanwhile: what it moves from a place not yet read to one
    already read escapes this search. Mappings that the process itself may not read
    (reserved addresses, guard pages) are left out. Blocks: about a second for 500 MB.

    Raises `MemoryUnreadable` when the memory cannot be opened, when the process ends
    before the search does, or when not one mapping could be read; `ValueError` when
    there is nothing to search for.
    """
    window = _Window(tuple(needles))
    read: list[int] = []
    unreadable: list[Region] = []
    octets_unreadable = 0
    with _opened(pid) as memory:
        for region in _promised_regions(pid):
            seen = _search(memory, region, window)
            octets_unreadable += region.end - region.start - seen
            if seen:
                read.append(seen)
            else:
                unreadable.append(region)
    if not read:
        raise MemoryUnreadable(f"process {pid} has no memory that can be read; has it ended?")
    return Scan(
        tuple(window.hits), sum(read), octets_unreadable, len(read), unreadable=tuple(unreadable)
    )


@contextmanager
def _opened(pid: int) -> Iterator[int]:
    """A descriptor of the memory of `pid`; it stays with that memory if the pid is used again."""
    try:
        descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unopenable(pid, error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _promised_regions(pid: int) -> list[Region]:
    """The mappings that should be readable, by ascending address."""
    try:
        content = Path(f"/proc/{pid}/maps").read_bytes()
    except OSError as error:
        raise _unopenable(pid, error) from error
    # A name may hold any octet but a newline, which the kernel escapes.
    regions = [_region(line) for line in content.split(b"\n") if line]
    return [region for region in regions if region.readable and region.name not in _KERNEL_PAGES]


def _region(line: bytes) -> Region:
    addresses, permissions, _offset, _device, _inode, *name = line.split(maxsplit=5)
    start, end = (int(address, 16) for address in addresses.split(b"-"))
    text = name[0].decode(errors="backslashreplace") if name else "[anonymous]"
    return Region(start, end, permissions.startswith(b"r"), text)


def _unopenable(pid: int, error: OSError) -> MemoryUnreadable:
    if isinstance(error, FileNotFoundError | ProcessLookupError):
        return MemoryUnreadable(f"there is no process {pid}, or it has ended")
    return MemoryUnreadable(
        f"cannot open the memory of process {pid} ({error.strerror}): this needs its user, and"
        " where Yama's ptrace_scope is 1 to be its ancestor, or CAP_SYS_PTRACE"
    )


def _search(memory: int, region: Region, window: _Window) -> int:
    """Moves `window` over `region`; returns how many octets could be read."""
    seen = 0
    address = region.start
    while address < region.end:
        try:
            count = window.advance(memory, address, region)
        except OSError:
            # A read ends before a page that cannot be read, so the next one begins with it.
            address += _PAGE
            continue
        if not count:
            raise MemoryUnreadable("the process ended while its memory was searched")
        seen += count
        address += count
    return seen


class _Window:
    """The last chunk of memory that was read, after the end of the one before it.

    Enough is kept that a needle across two chunks is found, across two mappings too
    where the second begins at the end of the first.
    """

    def __init__(self, needles: tuple[Needle, ...]) -> None:
        if not needles:
            raise ValueError("there is nothing to search for")
        self.hits: list[Hit] = []
        self._needles = needles
        self._margin = max(len(needle.octets) for needle in needles) - 1
        self._buffer = bytearray(self._margin + _CHUNK)
        self._kept = 0
        self._end = -1

    def advance(self, memory: int, address: int, region: Region) -> int:
        """Reads and searches on from `address`; returns how many octets, 0 if there is no memory.

        Raises `OSError` when the page at `address` cannot be read.
        """
        if address != self._end:
            self._kept = 0
        length = min(_CHUNK, region.end - address)
        with memoryview(self._buffer) as view:
            count = os.preadv(memory, [view[self._margin : self._margin + length]], address)
        for needle in self._needles:
            self._find(needle, address, count, region)
        self._keep(count)
        self._end = address + count
        return count

    def _find(self, needle: Needle, address: int, count: int, region: Region) -> None:
        # One octet less than the needle is kept for it: nothing is found twice.
        begin = self._margin - min(self._kept, len(needle.octets) - 1)
        end = self._margin + count
        while (found := self._buffer.find(needle.octets, begin, end)) >= 0:
            self.hits.append(Hit(needle.name, address - self._margin + found, region.name))
            begin = found + 1

    def _keep(self, count: int) -> None:
        self._buffer[: self._margin] = self._buffer[count : count + self._margin]
        self._kept = min(self._margin, self._kept + count)
