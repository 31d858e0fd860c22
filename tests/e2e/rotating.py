"""Sidecars that renew about once a second, and what they leave on their tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.demo.sidecars import Sidecar
from sidecar.demo.softhsm import SoftHsmStore
from tests.e2e.lab import Lab
from tests.e2e.shim import Shim

# Renewed at 1.02 s, give or take 0.18 s, but not before 1 s. The lifetime is long enough for
# a replaced key to be destroyed because nobody needs it, not because its certificate ends.
QUICK = {
    "lifetime": "30s",
    "renew_at": 0.034,
    "renew_jitter": 0.006,
    "root_settle": "1s",
    "root_keep": "30s",
}
THREADS = 2


# What the sidecar warns of because everything here runs as one user, and that may be root.
_OF_THIS_TEST = {
    "running as root: set process.user to a user of the sidecar's own",
    "callers may be the sidecar's own user: for evaluation only",
}


@dataclass(frozen=True)
class CountedStore(SoftHsmStore):
    """A store whose users load a module that tells how many sessions they have open."""

    shim: Shim

    @property
    def environment(self) -> dict[str, str]:
        told = self.directory / "sessions"
        return {**super().environment, **self.shim.sessions_environment(told)}

    def sessions(self, pid: int) -> int:
        """How many are open in a process."""
        return int((self.directory / f"sessions.{pid}").read_text(encoding="ascii"))

    @property
    def keys(self) -> float:
        """How many key pairs the token has; half a one is being made or destroyed.

        Whatever else it had would count too: SoftHSM2 keeps a file an object, and one for the
        token itself.
        """
        return (len(list(self.tokens.rglob("*.object"))) - 1) / 2


@dataclass
class Ledger:
    """What a sidecar's log says, read as it grows."""

    log: Path
    # Key identifiers, the oldest first.
    published: list[str] = field(default_factory=list)
    destroyed: list[str] = field(default_factory=list)
    # How often other roots were published.
    roots: int = 0
    # Lines that are no mere information.
    complaints: list[str] = field(default_factory=list)
    _read: int = 0

    @property
    def rotations(self) -> int:
        """The first certificate is none."""
        return len(self.published) - 1

    @property
    def generation(self) -> int:
        """What `meshkey status` shows."""
        return len(self.published) + self.roots

    def read_on(self) -> Ledger:
        """Takes in what came since the last time."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            # Not the beginning of a line that is being written.
            lines = log.read().rpartition(b"\n")[:2]
        self._read += sum(map(len, lines))
        for line in lines[0].decode().splitlines():
            self._take_in(line)
        return self

    def _take_in(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            self.complaints.append(line)
            return
        if entry["level"] != "info":
            if entry["event"] not in _OF_THIS_TEST:
                self.complaints.append(line)
        elif entry["event"] == "certificate published":
            self.published.append(entry["key_id"])
        elif entry["event"] == "key destroyed":
            self.destroyed.append(entry["key_id"])
        elif entry["event"] == "roots published":
            self.roots += 1


class Rotating:
    """A sidecar on a token of its own."""

    def __init__(
        self,
        lab: Lab,
        stack: ExitStack,
        spiffe_id: str,
        shim: Shim,
        identity: Mapping[str, object],
    ) -> None:
        self.store = CountedStore(lab.store().directory, shim)
        self.sidecar: Sidecar = stack.enter_context(
            lab.sidecar(
                spiffe_id,
                self.store,
                identity={**QUICK, **identity},
                module=shim.module,
                threads=THREADS,
            )
        )
        self.ledger = Ledger(self.sidecar.log)

    @property
    def sessions(self) -> int:
        return self.store.sessions(self.sidecar.pid)

    def keys(self) -> set[str]:
        """What `meshkey keys` lists."""
        done = subprocess.run(
            [sys.executable, "-m", "sidecar", "keys", "--json", "--config",
             str(self.sidecar.configuration)],
            env={**os.environ, **self.store.environment}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        return {row["key_id"] for row in json.loads(done.stdout)}
