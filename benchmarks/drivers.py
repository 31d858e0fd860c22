"""The two ways to a token that are compared: C by itself, and meshkey's layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.stores import Store

RAW = Path(__file__).with_name("raw_token")
# Of raw_token.c, by the scheme of the layer that does the same.
_MECHANISMS = {"ECDSA": "ecdsa", "RSA_PSS": "rsa-pss-sha256", "ED25519": "eddsa"}


def raw(store: Store, key: Mapping[str, Any], *, threads: int, seconds: float) -> dict[str, Any]:
    """Signatures by C alone, in a process of its own."""
    mechanism = next(m for name, m in _MECHANISMS.items() if key["scheme"].startswith(name))
    # fmt: off
    return run_json([
        RAW, store.module, store.label, key["key"], threads, seconds, store.pin_file, mechanism,
    ], store.environment)
    # fmt: on


def run_json(command: Sequence[object], environment: Mapping[str, str]) -> dict[str, Any]:
    """Runs a program that prints one JSON object."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


class CommandFailed(Exception):
    """The token refused, with what it said."""


class Layer:
    """`benchmarks.layer` in a child process."""

    def __init__(self, store: Store) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.layer", store.module, store.label, store.pin_file],
            env={**os.environ, **store.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.kill()
        self._child.communicate()

    def do(self, command: str, **options: Any) -> dict[str, Any]:
        """Runs one command of `layer.Bench`; blocks.

        Raises:
            CommandFailed: the token refused or is not to be had.
        """
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(json.dumps({"do": command, **options}) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            raise SystemExit(f"benchmarks.layer ended with {self._child.wait()} in {command}")
        result: dict[str, Any] = json.loads(line)
        if "error" in result:
            raise CommandFailed(result["error"])
        return result
