"""What the soak would call a leak."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
                    FILES - (number < 3) * 5 + number % 3 + int(files * number),
                    THREADS - (number < 3) * 5 + int(threads * number),
                    MEMORY_KIB - (number < 10) * 2_000 + number % 4 * 50 + int(kib * number),
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
    assert leaking(50, kib=40) == ["memory_kib"]
    assert leaking(50, kib=4) == []
    assert leaking(500, kib=4) == ["memory_kib"]


def test_a_process_is_seen_from_outside() -> None:
    program = "import threading, sys; threading.Thread(target=sys.stdin.read).start(); print()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        usage = Usage.of(process.pid)
        process.stdin.close()
    assert (usage.descriptors, usage.threads) == (3, 2)
    assert 1_000 < usage.memory_kib < 100_000
