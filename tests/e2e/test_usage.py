"""What the soak would call a leak."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sidecar.demo.envoy import Envoy
from sidecar.demo.processes import Process
from tests.e2e.usage import Sample, Usage, trends

FILES, THREADS, MEMORY_KIB = 30, 10, 35_000


def samples(
    *, rotations: int, files: float = 0, threads: float = 0, kib: float = 0
) -> list[Sample]:
    """A process that keeps so much more after each rotation, and takes a while to warm up."""
    return [
        Sample(
            rotations=number,
            requests=number,
            keys={},
            sessions={},
            usages={
                "sidecar": Usage(
                    descriptors=FILES - (number < 3) * 5 + number % 3 + int(files * number),
                    threads=THREADS - (number < 3) * 5 + int(threads * number),
                    resident_kib=0,
                    memory_kib=MEMORY_KIB
                    - (number < 10) * 2_000
                    + number % 4 * 50
                    + int(kib * number),
                )
            },
        )
        for number in range(1, rotations + 1)
    ]


def leaking(rotations: int, **growth: float) -> list[str]:
    return [
        trend.measure for trend in trends(samples(rotations=rotations, **growth)) if trend.leaks
    ]


@pytest.mark.parametrize("rotations", [50, 500])
def test_what_only_warms_up_and_wavers_does_not_leak(rotations: int) -> None:
    assert leaking(rotations) == []


@pytest.mark.parametrize("rotations", [50, 500])
def test_one_more_a_rotation_is_a_leak(rotations: int) -> None:
    assert leaking(rotations, files=1) == ["descriptors"]
    assert leaking(rotations, threads=1) == ["threads"]


def test_the_longer_the_soak_the_smaller_the_leak_that_it_sees() -> None:
    assert leaking(50, kib=60) == ["memory_kib"]
    assert leaking(50, kib=6) == []
    assert leaking(500, kib=6) == ["memory_kib"]


def test_a_process_is_seen_from_outside(tmp_path: Path) -> None:
    program = "import threading, sys; threading.Thread(target=threading.Event().wait).start()"
    with Process("some", [sys.executable, "-c", program], tmp_path / "log", {}) as process:
        process.wait_until(lambda: Usage.of(process).threads == 2, "its thread")
        usage = Usage.of(process)
    assert usage.descriptors == 3
    assert 1_000 < usage.resident_kib == usage.memory_kib < 100_000


def test_an_envoy_tells_what_it_has_allocated(server: Envoy) -> None:
    usage = Usage.of(server)
    assert 1_000 < usage.memory_kib < usage.resident_kib
