"""What it costs to know callers: directly by their sockets' names, and through the proxy."""

from __future__ import annotations

from statistics import median

from benchmarks.drivers import run_json
from benchmarks.signing import LOAD
from sidecar.demo.mesh import CLIENT, Mesh
from sidecar.demo.sidecars import Sidecar

_IN_FLIGHT = 64


class _Open(Sidecar):
    """Lets in everybody."""

    module = "benchmarks.everybody"


def measure(mesh: Mesh, known: Sidecar, rounds: int, seconds: float) -> dict[str, float]:
    """Medians over interleaved rounds of signatures down one stream."""
    settings = (mesh.ca, mesh.store, mesh.mesh_pin, mesh.directory)
    with _Open("everybody", CLIENT, *settings) as open_:
        open_.ready()
        open_.wait_until(open_.certified, "a certificate")
        ways = {"open": open_.socket, "known": known.socket, "proxied": known.proxy}
        busy: dict[str, list[float]] = {name: [] for name in ways}
        alone: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds):
            for name, path in ways.items() if number % 2 else reversed(ways.items()):
                load = run_json([LOAD, path, _IN_FLIGHT, seconds], {})
                busy[name].append(load["per_second"])
                alone[name].append(run_json([LOAD, path, 1, seconds / 4], {})["p50_us"])
    return {
        "callers_unknown_per_second_c64": median(busy["open"]),
        "callers_known_per_second_c64": median(busy["known"]),
        "callers_ratio": _ratio(busy["known"], busy["open"]),
        "proxied_per_second_c64": median(busy["proxied"]),
        "proxy_ratio": _ratio(busy["proxied"], busy["known"]),
        "proxy_p50_ratio_c1": _ratio(alone["proxied"], alone["known"]),
        "proxy_added_us_c1": median(
            proxied - direct
            for proxied, direct in zip(alone["proxied"], alone["known"], strict=True)
        ),
    }


def _ratio(some: list[float], others: list[float]) -> float:
    return median(one / other for one, other in zip(some, others, strict=True))
