"""An HSM on the network, simulated, and the signing pool in C against Python's threads."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.drivers import Layer, raw
from benchmarks.stores import SOFTHSM2, LocalStore

_SLOW = Path(__file__).with_name("libslow_hsm.so")
_SLOW_US = 2000
_SESSIONS = 32
_ALGORITHM = "ec-p256"
_SHARE = 0.5

_Samples = dict[str, list[float]]


def measure(rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, float]:
    """Medians over interleaved rounds."""
    say("a token of 2 ms with 32 sessions")
    slow = {"MESHKEY_SLOW_HSM_MODULE": str(SOFTHSM2), "MESHKEY_SLOW_HSM_US": str(_SLOW_US)}
    results = _measure(_SLOW, slow, _slow_round, rounds, seconds * _SHARE)
    say("the pool in C")
    return results | _measure(SOFTHSM2, {}, _fast_round, rounds, seconds * _SHARE)


def _measure(
    module: Path,
    environment: dict[str, str],
    one_round: Callable[[LocalStore, Layer, dict[str, Any], float], dict[str, float]],
    rounds: int,
    seconds: float,
) -> dict[str, float]:
    directory = Path(tempfile.mkdtemp(prefix="meshkey-", dir="/tmp"))
    samples: _Samples = {}
    try:
        store = LocalStore(directory / "token", module, **environment)
        with Layer(store) as layer:
            key = layer.do("generate", algorithm=_ALGORITHM)
            for _ in range(rounds):
                for name, value in one_round(store, layer, key, seconds).items():
                    samples.setdefault(name, []).append(value)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    rates = {name: median(values) for name, values in samples.items()}
    base = next(name for name in rates if "raw" in name)
    ratios = {f"{name}_ratio": rate / rates[base] for name, rate in rates.items() if name != base}
    return {f"{name}_per_second": rate for name, rate in rates.items()} | ratios


def _slow_round(
    store: LocalStore, layer: Layer, key: dict[str, Any], seconds: float
) -> dict[str, float]:
    def executor(in_flight: int) -> float:
        return float(
            layer.do("executor", threads=_SESSIONS, in_flight=in_flight, seconds=seconds)[
                "per_second"
            ]
        )

    pool = layer.do("pool", threads=_SESSIONS, in_flight=256, seconds=seconds)
    return {
        "hsm2ms_raw": raw(store, key, threads=_SESSIONS, seconds=seconds)["per_second"],
        "hsm2ms_executor": executor(64),
        "hsm2ms_executor_c256": executor(256),
        "native_pool_hsm2ms": pool["per_second"],
    }


def _fast_round(
    store: LocalStore, layer: Layer, key: dict[str, Any], seconds: float
) -> dict[str, float]:
    return {
        "p256_raw": raw(store, key, threads=2, seconds=seconds)["per_second"],
        "p256_executor": layer.do("executor", threads=2, in_flight=64, seconds=seconds)[
            "per_second"
        ],
        "native_pool_p256": layer.do("pool", threads=2, in_flight=64, seconds=seconds)[
            "per_second"
        ],
    }
