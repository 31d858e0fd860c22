"""Full mutual TLS 1.3 handshakes: a key in the token against a key in Envoy's memory."""

from __future__ import annotations

import json
import subprocess
from statistics import median
from typing import Any

from sidecar.demo.credentials import FileCredentials
from sidecar.demo.envoy import REPOSITORY, Envoy
from sidecar.demo.mesh import Mesh
from sidecar.demo.sidecars import Sidecar

_LOAD = REPOSITORY / "envoy-module" / "target" / "release" / "examples" / "handshake_load"
_CONNECTIONS = 32


def measure(
    mesh: Mesh, sidecar: Sidecar, client: str, server: str, rounds: int, seconds: float
) -> dict[str, float]:
    """Medians over interleaved rounds with the same client against both Envoys."""
    caller = mesh.file_credentials(client, "bench-client")
    in_memory = mesh.file_credentials(server, "bench-server")
    # Both Envoys answer requests themselves: an application would cost both the same and
    # blur the difference.
    with_token = mesh.start_server_envoy(sidecar, app_port=9, answer_itself=True)
    native = mesh.start_native_envoy(in_memory, app_port=9, answer_itself=True)
    token_rates, native_rates, cpu = [], [], []
    for _ in range(rounds):
        native_rates.append(_rate(mesh, native, caller, seconds)["per_second"])
        before = sidecar.cpu_seconds + with_token.cpu_seconds
        run = _rate(mesh, with_token, caller, seconds)
        spent = sidecar.cpu_seconds + with_token.cpu_seconds - before
        token_rates.append(run["per_second"])
        cpu.append(spent / run["handshakes"] * 1e6)
    return {
        "native_handshakes_per_second": median(native_rates),
        "handshakes_per_second": median(token_rates),
        "handshake_ratio_vs_native": median(token_rates) / median(native_rates),
        "cpu_us_per_handshake": median(cpu),
    }


def _rate(mesh: Mesh, envoy: Envoy, caller: FileCredentials, seconds: float) -> dict[str, Any]:
    command = [
        _LOAD,
        *("--address", f"127.0.0.1:{envoy.port('mtls')}"),
        *("--ca", mesh.ca.root_file),
        *("--cert", caller.chain),
        *("--key", caller.key),
        *("--connections", _CONNECTIONS),
        *("--seconds", seconds),
    ]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=True, timeout=120
    )
    result: dict[str, Any] = json.loads(done.stdout)
    if result["failures"]:
        raise SystemExit(f"{envoy.name}: {result['failures']} failed: {result['first_failure']}")
    return result
