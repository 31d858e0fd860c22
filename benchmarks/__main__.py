"""`make bench`: prints a table and writes benchmarks/results.json."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import audit, flood, footprint, handshakes, pool, signing, tokens
from sidecar.demo.mesh import CLIENT, SERVER, Mesh

_RESULTS = Path(__file__).with_name("results.json")
# What the first release aims at; a result is reported either way.
_AIMS = {
    "handshake_ratio_vs_native": ">= 0.5",
    "sign_ratio_c64": ">= 0.35",
    "sign_p50_ratio_c1": "<= 10",
    "sign_p99_ratio_c1": "<= 10",
    "audit_ratio": ">= 0.9",
    "flood_honest_ratio": ">= 0.8",
    "slow_flood_honest_ratio": ">= 0.8",
    "sidecar_idle_mb": "<= 75",
    "hsm2ms_executor_c256_ratio": ">= 0.8",
}


_PARTS = ("signing", "audit", "flood", "handshakes", "tokens", "pool")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (median)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument(
        "--only", choices=_PARTS, action="append", help="this part; others keep their results"
    )
    options = parser.parse_args()
    parts = options.only or _PARTS
    results = _measure(parts, options.rounds, options.seconds)
    document = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **_machine()}
    if options.only and _RESULTS.exists():
        document = {**json.loads(_RESULTS.read_text(encoding="utf-8")), **document}
    _RESULTS.write_text(json.dumps(document | results, indent=2) + "\n", encoding="utf-8")
    _show(results)


def _measure(parts: Sequence[str], rounds: int, seconds: float) -> dict[str, float]:
    results: dict[str, float] = {}
    if {"signing", "audit", "flood", "handshakes"} & set(parts):
        results |= _in_a_mesh(parts, rounds, seconds)
    if "pool" in parts:
        results |= pool.measure(rounds, seconds, _say)
    if "tokens" in parts:
        results |= tokens.measure(rounds, seconds, _say)
    return {name: round(value, 3) for name, value in results.items()}


def _in_a_mesh(parts: Sequence[str], rounds: int, seconds: float) -> dict[str, float]:
    with Mesh() as mesh:
        mesh.initialise_tokens()
        mesh.start_ca()
        results, sidecar = footprint.start(mesh, SERVER)
        with footprint.Watched(sidecar) as watched:
            if "signing" in parts:
                _say("signatures")
                results |= signing.measure(mesh, sidecar, rounds, seconds)
            if "audit" in parts:
                _say("the audit log")
                results |= audit.measure(mesh, sidecar, rounds, seconds)
            if "flood" in parts:
                _say("an honest caller beside a flooder")
                results |= flood.measure(mesh, sidecar, rounds, seconds)
            if "handshakes" in parts:
                _say("handshakes")
                results |= handshakes.measure(mesh, sidecar, CLIENT, SERVER, rounds, seconds)
        results["sidecar_loaded_mb"] = watched.most_mb
    return results


def _machine() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip(),
        # Those that this process may use, not those that the machine has.
        "cpus": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _show(results: dict[str, float]) -> None:
    table = Table("measure", "result", "aim", box=None)
    for name, value in results.items():
        table.add_row(name, f"{value:g}", _aim(name))
    Console().print(table)


def _aim(name: str) -> str:
    if name.startswith("token_") and name.endswith("_layer_ratio"):
        fast = "_rsa_" not in name and "_tpm2_" not in name
        return ">= 0.6" if fast else ">= 0.8"
    return _AIMS.get(name, "")


def _say(what: str) -> None:
    print(f"measuring {what} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
