"""Signatures down one SignStream, against the token itself driven from C."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.drivers import RAW, run_json
from benchmarks.stores import SOFTHSM2
from sidecar.demo.envoy import REPOSITORY
from sidecar.demo.mesh import Mesh
from sidecar.demo.sidecars import Sidecar

LOAD = REPOSITORY / "envoy-module" / "target" / "release" / "examples" / "sign_load"


def measure(mesh: Mesh, sidecar: Sidecar, rounds: int, seconds: float) -> dict[str, float]:
    """Medians over interleaved rounds: each measure meets the same noise."""
    raw_two, raw_one, busy, alone, cpu = [], [], [], [], []
    for _ in range(rounds):
        raw_two.append(_raw(mesh, sidecar, threads=2, seconds=seconds))
        before = sidecar.cpu_seconds
        busy.append(_stream(sidecar, in_flight=64, seconds=seconds))
        cpu.append((sidecar.cpu_seconds - before) / busy[-1]["signatures"] * 1e6)
        raw_one.append(_raw(mesh, sidecar, threads=1, seconds=seconds))
        alone.append(_stream(sidecar, in_flight=1, seconds=seconds))
    return {
        "raw_per_second": _median(raw_two, "per_second"),
        "sign_per_second_c64": _median(busy, "per_second"),
        "sign_ratio_c64": _median(busy, "per_second") / _median(raw_two, "per_second"),
        "raw_p50_us": _median(raw_one, "p50_us"),
        "sign_p50_us_c1": _median(alone, "p50_us"),
        "sign_p50_ratio_c1": _median(alone, "p50_us") / _median(raw_one, "p50_us"),
        "sign_p99_us_c1": _median(alone, "p99_us"),
        "sign_p99_ratio_c1": _median(alone, "p99_us") / _median(raw_one, "p99_us"),
        "sidecar_cpu_us_per_signature": median(cpu),
    }


def _raw(mesh: Mesh, sidecar: Sidecar, *, threads: int, seconds: float) -> dict[str, Any]:
    key = sidecar.status().identities[0].key_id.hex()
    return run_json(
        [RAW, SOFTHSM2, "mesh", key, threads, seconds, mesh.mesh_pin], mesh.store.environment
    )


def _stream(sidecar: Sidecar, *, in_flight: int, seconds: float) -> dict[str, Any]:
    return run_json([LOAD, sidecar.socket, in_flight, seconds], {})


def _median(samples: list[dict[str, Any]], name: str) -> float:
    return float(median(sample[name] for sample in samples))
