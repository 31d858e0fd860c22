"""Renders results.json into docs/performance.md: python -m benchmarks.report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.stores import TOKENS
from sidecar.core.schemes import KeyAlgorithm

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

_Results = Mapping[str, Any]
_Row = tuple[str, ...]


def render(page: str, results: _Results) -> str:
    """`page` with each table between its markers made from `results`."""
    return _TABLE.sub(lambda found: f"{found[1]}\n{_TABLES[found[2]](results)}\n\n{found[3]}", page)


def _machine(results: _Results) -> str:
    return (
        f"Measured at commit {results['commit']} on {results['date'][:10]}: "
        f"{results['cpus']} processors ({results['processor']}), Linux {results['kernel']}, "
        f"Python {results['python']}."
    )


def _named(*rows: tuple[str, str, str]) -> Callable[[_Results], str]:
    def table(results: _Results) -> str:
        return _table(
            ("Measure", "Result", "Aim"),
            [(text, _number(results[key]), aim) for key, text, aim in rows if key in results],
        )

    return table


_signing = _named(
    ("raw_per_second", "The token from C, 2 threads, signatures/s", ""),
    ("sign_per_second_c64", "One SignStream, 64 in flight, signatures/s", ""),
    ("sign_ratio_c64", "Ratio", "0.35"),
    ("audit_ratio", "With the audit log against without, 64 in flight", "0.9"),
    ("raw_p50_us", "The token from C, 1 thread, p50, µs", ""),
    ("sign_p50_us_c1", "SignStream, 1 in flight, p50, µs", ""),
    ("sign_p50_ratio_c1", "Ratio of p50", "at most 10"),
    ("sign_p99_us_c1", "SignStream, 1 in flight, p99, µs", ""),
    ("sign_p99_ratio_c1", "Ratio of p99", "at most 10"),
    ("sidecar_cpu_us_per_signature", "Processor time of the sidecar for a signature, µs", ""),
)
_flood = _named(
    *(
        (prefix + measure, f"{token}: {text}", aim)
        for prefix, token in (("", "SoftHSM2"), ("slow_", "8 ms token"))
        for measure, text, aim in (
            ("honest_alone_per_second", "alone, signatures/s in time", ""),
            ("honest_flooded_per_second", "beside the flooder, signatures/s in time", ""),
            ("flood_honest_ratio", "ratio", "0.8"),
            ("honest_alone_p99_us", "alone, p99, µs", ""),
            ("honest_flooded_p99_us", "beside the flooder, p99, µs", ""),
            ("flooder_per_second", "the flooder, signatures/s", ""),
        )
    ),
)
_handshakes = _named(
    ("native_handshakes_per_second", "Key in Envoy's memory, handshakes/s", ""),
    ("handshakes_per_second", "Key in the token, handshakes/s", ""),
    ("handshake_ratio_vs_native", "Ratio", "0.5"),
    ("cpu_us_per_handshake", "Processor time of Envoy and sidecar for a handshake, µs", ""),
)
_footprint = _named(
    ("start_to_ready_s", "Start to first certificate, s", ""),
    ("sidecar_idle_mb", "Sidecar, idle, MB", "at most 75"),
    ("sidecar_loaded_mb", "Sidecar, most under load, MB", ""),
)
_pool = _named(
    ("hsm2ms_raw_per_second", "2 ms token from C, 32 threads, signatures/s", "(ceiling 16,000)"),
    ("hsm2ms_executor_ratio", "Executor of 32 threads, 64 in flight, ratio", "0.8"),
    ("hsm2ms_executor_c256_ratio", "Executor of 32 threads, 256 in flight, ratio", "0.8"),
    ("native_pool_hsm2ms_ratio", "Experiment: pool in C of 32 threads, ratio", "0.8"),
    ("p256_executor_ratio", "SoftHSM2, P-256: executor of 2 threads, ratio", "0.6"),
    ("native_pool_p256_ratio", "SoftHSM2, P-256: pool in C of 2 threads, ratio", "0.6"),
)


def _tokens(results: _Results) -> str:
    columns = {
        "raw_per_second": "From C, /s",
        "layer_per_second": "Layer, /s",
        "layer_ratio": "Ratio",
        "executor_ratio": "Executor, ratio",
        "p50_ratio": "p50 ratio",
        "p99_ratio": "p99 ratio",
        "generation_ms": "New key, ms",
    }
    rows = []
    for token in TOKENS:
        for algorithm in KeyAlgorithm:
            prefix = f"token_{token}_{algorithm.value}_".replace("-", "_")
            if prefix + "raw_per_second" in results:
                values = [_number(results[prefix + column]) for column in columns]
                rows.append((token, algorithm.value, *values))
    return _table(("Token", "Key", *columns.values()), rows)


def _recovery(results: _Results) -> str:
    names = {token: f"token_{token}_recovery_ms".replace("-", "_") for token in TOKENS}
    rows = [(t, _number(results[name])) for t, name in names.items() if name in results]
    return _table(("Token", "Return to first signature, ms"), rows)


_TABLES: Mapping[str, Callable[[_Results], str]] = {
    "machine": _machine,
    "signing": _signing,
    "flood": _flood,
    "handshakes": _handshakes,
    "footprint": _footprint,
    "pool": _pool,
    "tokens": _tokens,
    "recovery": _recovery,
}


def _table(head: _Row, rows: Iterable[_Row]) -> str:
    lines = [head, tuple("---" if n == 0 else "---:" for n in range(len(head))), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def main() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
