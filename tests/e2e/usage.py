"""What processes hold while they work, and whether it grows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sidecar.demo.envoy import Envoy
from sidecar.demo.processes import Process

# Connections come and go, pools of threads fill up: so many more are no leak. One a rotation
# would be more, in the shortest soak too.
SPREAD = 8
# An allocator takes memory in blocks, and what is free in them lies about.
MEMORY_SPREAD_KIB = 768
# SoftHSM2 2.6 keeps something of every object until the module is closed, also of those that
# were destroyed (`allObjects` in its OSToken.cpp). A program that does nothing but make and
# destroy P-256 keys grows by 1.9 KiB for each.
SOFTHSM2_KEEPS_KIB = 2.0


@dataclass(frozen=True)
class Usage:
    """One process at one moment.

    What is resident is what it has for itself (RssAnon of proc(5)): pages of files and
    libraries, which the kernel brings and takes as it likes, are not in it.
    """

    descriptors: int
    threads: int
    resident_kib: int
    # What the program has asked its allocator for and not given back, if it tells; otherwise
    # the same. An Envoy's allocator keeps megabytes for later, more and more of them for long.
    memory_kib: int

    @classmethod
    def of(cls, process: Process) -> Usage:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        resident = _field(status, "RssAnon")
        return cls(
            _descriptors(process.pid),
            _field(status, "Threads"),
            resident,
            _allocated(process) // 1024 if isinstance(process, Envoy) else resident,
        )


@dataclass(frozen=True)
class Sample:
    """A mesh at one moment; everything by the name of its process."""

    rotations: int
    requests: int
    # Of those that make keys.
    keys: Mapping[str, float]
    sessions: Mapping[str, int]
    usages: Mapping[str, Usage]


@dataclass(frozen=True)
class Trend:
    """One measure of one process, when it had warmed up and in the end."""

    process: str
    measure: str
    early: int
    late: int
    spread: int

    @property
    def leaks(self) -> bool:
        return self.late - self.early > self.spread


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """The samples lie at even distances.

    Of what is counted, the most in the last third against the most after the first tenth. Of
    memory, the medians of the second and the last third: a peak is no leak, and a process
    takes longer to have seen everything once.
    """
    number = len(samples)
    warm, second, last = (
        samples[number // 10 : number // 3],
        samples[number // 3 : 2 * number // 3],
        samples[2 * number // 3 :],
    )
    between = (samples[-1].rotations - samples[0].rotations) / 3
    found = []
    for process in samples[0].usages:
        for counted in ("descriptors", "threads"):
            early, late = (max(_series(part, process, counted)) for part in (warm, last))
            found.append(Trend(process, counted, early, late, SPREAD))
        early, late = (int(median(_series(part, process, "memory_kib"))) for part in (second, last))
        kept = SOFTHSM2_KEEPS_KIB * between if process in samples[0].keys else 0.0
        found.append(Trend(process, "memory_kib", early, late, MEMORY_SPREAD_KIB + round(kept)))
    return found


def _series(samples: Sequence[Sample], process: str, measure: str) -> list[int]:
    return [getattr(sample.usages[process], measure) for sample in samples]


def _allocated(envoy: Envoy) -> int:
    """Octets; with the module's, whose malloc is Envoy's."""
    return int(json.loads(envoy.admin("/memory"))["allocated"])


def _descriptors(pid: int) -> int:
    directory = f"/proc/{pid}/fd"
    try:
        return len(os.listdir(directory))  # noqa: PTH208  # names are enough
    except PermissionError:
        # A sidecar is not dumpable, so only root may look; since Linux 6.2 the size tells.
        number = Path(directory).stat().st_size
        assert number, "this kernel tells only root how many files a sidecar has open"
        return number


def _field(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found
    return int(found[1])
