"""An honest caller beside a flooder: what is left to it."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from benchmarks.drivers import run_json
from benchmarks.signing import LOAD
from sidecar.demo.mesh import CLIENT, Mesh
from sidecar.demo.sidecars import Sidecar
from tests.e2e.shim import Shim

# Asks at a rate, whether answers come or not.
_PACED = LOAD.with_name("sign_paced")
_PER_SECOND = 200
_IN_FLIGHT = 64
# What a handshake bears without anybody noticing; the module gives up after 10 s.
_DEADLINE_MS = 100
# Such a token makes 500 in a second: first come, first served, the flooder's 64 take longer
# than the deadline, and half of it is more than the honest caller wants.
_SLOW, _SLOW_THREADS = "C_Sign delay 8", 4
# The flood is there before, and after, what is measured.
_AROUND_S = 0.5


def measure(mesh: Mesh, sidecar: Sidecar, rounds: int, seconds: float) -> dict[str, float]:
    """Medians over interleaved rounds. The two callers are processes of their own."""
    slow = _behind_a_slow_module(mesh)
    of_slow = {f"slow_{what}": value for what, value in _measure(slow, rounds, seconds).items()}
    return _measure(sidecar, rounds, seconds) | of_slow


def _behind_a_slow_module(mesh: Mesh) -> Sidecar:
    shim = Shim.build(mesh.directory)
    shim.rule(_SLOW)
    os.environ |= shim.environment
    return mesh.start_sidecar("slow", CLIENT, module=shim.module, threads=_SLOW_THREADS)


def _measure(sidecar: Sidecar, rounds: int, seconds: float) -> dict[str, float]:
    alone, beside, flooder = [], [], []
    for number in range(rounds):
        for flooded in (False, True) if number % 2 else (True, False):
            if flooded:
                honest, flood = _beside_a_flood(sidecar, seconds)
                beside.append(honest)
                flooder.append(flood)
            else:
                alone.append(_honest(sidecar, seconds))
    pairs = zip(beside, alone, strict=True)
    return {
        "honest_alone_per_second": _median(alone, "per_second"),
        "honest_flooded_per_second": _median(beside, "per_second"),
        "flood_honest_ratio": median(one["per_second"] / two["per_second"] for one, two in pairs),
        "honest_alone_p99_us": _median(alone, "p99_us"),
        "honest_flooded_p99_us": _median(beside, "p99_us"),
        "flooder_per_second": _median(flooder, "per_second"),
    }


def _honest(sidecar: Sidecar, seconds: float) -> dict[str, Any]:
    return run_json([_PACED, sidecar.socket, _PER_SECOND, seconds, _DEADLINE_MS], {})


def _beside_a_flood(sidecar: Sidecar, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    length = seconds + 2 * _AROUND_S
    with ThreadPoolExecutor(1) as other:
        flood = other.submit(run_json, [LOAD, sidecar.socket, _IN_FLIGHT, length], {})
        time.sleep(_AROUND_S)
        honest = _honest(sidecar, seconds)
        return honest, flood.result()


def _median(samples: list[dict[str, Any]], name: str) -> float:
    return float(median(sample[name] for sample in samples))
