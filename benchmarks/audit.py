"""What the audit log costs: one sidecar with it and one without, asked in turns."""

from __future__ import annotations

from statistics import median

from benchmarks.drivers import run_json
from benchmarks.signing import LOAD
from sidecar.demo.mesh import CLIENT, Mesh
from sidecar.demo.sidecars import Sidecar

_IN_FLIGHT = 64


def measure(mesh: Mesh, without: Sidecar, rounds: int, seconds: float) -> dict[str, float]:
    """Medians over interleaved rounds of signatures down one stream."""
    audited = mesh.start_sidecar("audited", CLIENT, audit={"directory": mesh.directory / "audit"})
    rates: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(rounds):
        pair = [("with", audited), ("without", without)]
        for name, sidecar in pair if number % 2 else reversed(pair):
            load = run_json([LOAD, sidecar.socket, _IN_FLIGHT, seconds], {})
            rates[name].append(load["per_second"])
    return {
        "audited_per_second_c64": median(rates["with"]),
        "unaudited_per_second_c64": median(rates["without"]),
        "audit_ratio": median(
            with_ / without_
            for with_, without_ in zip(rates["with"], rates["without"], strict=True)
        ),
    }
