"""`make bench`: prints a table and writes benchmarks/results.json."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import footprint, handshakes, signing
from sidecar.demo.mesh import CLIENT, SERVER, Mesh

_RESULTS = Path(__file__).with_name("results.json")
# What the first release aims at; a result is reported either way.
_AIMS = {
    "handshake_ratio_vs_native": ">= 0.5",
    "sign_ratio_c64": ">= 0.35",
    "sign_p50_ratio_c1": "<= 10",
    "sign_p99_ratio_c1": "<= 10",
    "sidecar_idle_mb": "<= 75",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (median)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    options = parser.parse_args()
    results = _measure(options.rounds, options.seconds)
    document = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **_machine(), **results}
    _RESULTS.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    _show(results)


def _measure(rounds: int, seconds: float) -> dict[str, float]:
    with Mesh() as mesh:
        mesh.initialise_tokens()
        mesh.start_ca()
        results, sidecar = footprint.start(mesh, SERVER)
        _say("signatures")
        results |= signing.measure(mesh, sidecar, rounds, seconds)
        _say("handshakes")
        results |= handshakes.measure(mesh, sidecar, CLIENT, SERVER, rounds, seconds)
        results["sidecar_loaded_mb"] = sidecar.resident_mb
    return {name: round(value, 3) for name, value in results.items()}


def _machine() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip(),
        "cpus": len(Path("/sys/devices/system/cpu/online").read_text().split(",")),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _show(results: dict[str, float]) -> None:
    table = Table("measure", "result", "aim", box=None)
    for name, value in results.items():
        table.add_row(name, f"{value:g}", _AIMS.get(name, ""))
    Console().print(table)


def _say(what: str) -> None:
    print(f"measuring {what} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
