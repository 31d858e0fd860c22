"""Each token and algorithm: meshkey's layer against the same token driven from C."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.drivers import CommandFailed, Layer, raw
from benchmarks.stores import TOKENS, Store, running
from sidecar.core.schemes import KeyAlgorithm

_IN_FLIGHT = 64
_RECOVERIES = 3
# A TPM that is cut off counts that as a wrong PIN, and is locked after the third.
_RECOVERIES_OF = {"tpm2": 1}
# Seventeen pairs of token and algorithm: each gets a part of the time of the one main measure.
_MOST_ROUNDS = 5
_SHARE = 0.2


def measure(rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, float]:
    """Medians over interleaved rounds, under `token_<token>_<algorithm>_<measure>`."""
    results: dict[str, float] = {}
    for token in TOKENS:
        directory = Path(tempfile.mkdtemp(prefix="meshkey-", dir="/tmp"))
        try:
            with running(token, directory / "token") as store, Layer(store) as layer:
                for algorithm in KeyAlgorithm:
                    say(f"{token}, {algorithm.value}")
                    try:
                        made = layer.do("generate", algorithm=algorithm.value)
                    except CommandFailed as error:
                        say(f"  left out: {error}")
                        continue
                    found = _one(store, layer, made, min(rounds, _MOST_ROUNDS), seconds * _SHARE)
                    name = f"token_{token}_{algorithm.value}".replace("-", "_")
                    results |= {f"{name}_{what}": value for what, value in found.items()}
                say(f"{token}, recovery")
                try:
                    taken = _recovery(store, layer, _RECOVERIES_OF.get(token, _RECOVERIES))
                except CommandFailed as error:
                    say(f"  left out: {error}")
                    continue
                results[f"token_{token}_recovery_ms".replace("-", "_")] = taken
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    return results


def _one(
    store: Store, layer: Layer, key: dict[str, Any], rounds: int, seconds: float
) -> dict[str, float]:
    samples: dict[str, list[dict[str, Any]]] = {}

    def take(name: str, sample: dict[str, Any]) -> None:
        samples.setdefault(name, []).append(sample)

    for _ in range(rounds):
        take("raw", raw(store, key, threads=2, seconds=seconds))
        take("layer", layer.do("layer", threads=2, seconds=seconds))
        take("executor", layer.do("executor", threads=2, in_flight=_IN_FLIGHT, seconds=seconds))
        take("raw1", raw(store, key, threads=1, seconds=seconds))
        take("layer1", layer.do("layer", threads=1, seconds=seconds))

    def middle(name: str, what: str) -> float:
        return float(median(sample[what] for sample in samples[name]))

    rates = {name: middle(name, "per_second") for name in ("raw", "layer", "executor")}
    return {
        "raw_per_second": rates["raw"],
        "layer_per_second": rates["layer"],
        "layer_ratio": rates["layer"] / rates["raw"],
        "executor_per_second": rates["executor"],
        "executor_ratio": rates["executor"] / rates["raw"],
        "p50_us": middle("layer1", "p50_us"),
        "p50_ratio": middle("layer1", "p50_us") / middle("raw1", "p50_us"),
        "p99_us": middle("layer1", "p99_us"),
        "p99_ratio": middle("layer1", "p99_us") / middle("raw1", "p99_us"),
        "generation_ms": key["ms"],
    }


def _recovery(store: Store, layer: Layer, times: int) -> float:
    """Milliseconds from the token's return to the first signature."""
    layer.do("generate", algorithm=KeyAlgorithm.EC_P256.value)
    taken: list[float] = []
    for _ in range(times):
        store.stop()
        layer.do("until_lost")
        store.start()
        taken.append(layer.do("first")["ms"])
    return median(taken)
