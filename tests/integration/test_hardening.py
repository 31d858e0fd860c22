"""Real processes that read a PIN: no core dump, no reader of their memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.mesh import Mesh

_PR_GET_DUMPABLE = """
import ctypes, resource, sys
from sidecar import cli

def state(*_arguments):
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    print(dumpable, *resource.getrlimit(resource.RLIMIT_CORE))
    raise SystemExit(0)

async def serve(_settings, _read):
    state()

import sidecar.app.serve, sidecar.app.token, sidecar.token.sealed_pin, sidecar.demo.demo
sidecar.app.serve.serve, sidecar.app.token.open_token = serve, state
sidecar.token.sealed_pin.seal = sidecar.demo.demo.Mesh = state
cli.commands(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "command",
    [
        ["serve", "--config", "CONFIG"],
        ["keys", "--config", "CONFIG"],
        ["token", "seal-pin", "--out", "sealed"],
        ["demo"],
    ],
    ids=lambda command: command[-3 if "--out" in command else 0],
)
def test_every_command_that_reads_a_pin_is_undumpable_before_it_does(
    command: list[str], tmp_path: Path
) -> None:
    config = tmp_path / "meshkey.toml"
    config.write_text('[token]\nlabel = "mesh"\npin_file = "/pin"\n', encoding="utf-8")
    arguments = [str(config) if argument == "CONFIG" else argument for argument in command]
    ran = subprocess.run(
        [sys.executable, "-c", _PR_GET_DUMPABLE, *arguments],
        input="zq7x\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "0 0 0\n", ran.stderr


def test_a_running_sidecar_leaves_no_core(mesh: Mesh) -> None:
    process = mesh.start_issuer()
    limits = Path(f"/proc/{process.pid}/limits").read_text(encoding="utf-8")
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
