"""curl and openssl, as users run them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sidecar.demo.processes import wait_for
from tests.e2e.peers import GET, Files

_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Curled:
    """`code` is curl's exit status; `version` is "2" or "1.1"."""

    code: int
    status: int
    version: str
    body: str
    error: str


def curl(url: str, *options: str, credentials: Files | None = None) -> Curled:
    certificate = (
        ["--cert", str(credentials.chain), "--key", str(credentials.key)] if credentials else []
    )
    done = subprocess.run(
        # A SPIFFE certificate has no host name: openssl checks the chain, curl cannot.
        ["curl", "--silent", "--show-error", "--insecure", "--max-time", "30", *certificate,
         *options, "--write-out", "\n%{http_code} %{http_version}", url],
        capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
    )  # fmt: skip
    body, _, result = done.stdout.rpartition("\n")
    status, version = result.split()
    return Curled(done.returncode, int(status), version, body, done.stderr)


@dataclass(frozen=True)
class Said:
    """What `openssl s_client` printed."""

    code: int
    text: str


def s_client(
    port: int, *options: str, credentials: Files | None = None, request: bytes = GET
) -> Said:
    """Connects, sends `request`, reads until the other side closes."""
    certificate = (
        ["-cert", str(credentials.chain), "-key", str(credentials.key)] if credentials else []
    )
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-ign_eof", *certificate,
         *options],
        input=request, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_TIMEOUT_S,
        check=False,
    )  # fmt: skip
    return Said(done.returncode, done.stdout.decode(errors="replace"))


class SServer:
    """`openssl s_server` on a free port; a terminal's lines are `say`'s."""

    def __init__(self, log: Path, credentials: Files, *options: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "openssl", "s_server", "-accept",
                 "127.0.0.1:0", "-cert", str(credentials.chain), "-key", str(credentials.key),
                 *options],
                stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.wait_for("ACCEPT")

    def __enter__(self) -> SServer:
        return self

    def __exit__(self, *_error: object) -> None:
        self._child.kill()
        self._child.communicate()

    @property
    def port(self) -> int:
        found = re.search(r"ACCEPT 127\.0\.0\.1:(\d+)", self.text)
        assert found, self.text
        return int(found[1])

    @property
    def text(self) -> str:
        """All that it has printed: about connections, and what clients sent."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def say(self, octets: bytes) -> None:
        """Sends to the client that is connected."""
        assert self._child.stdin
        self._child.stdin.write(octets)
        self._child.stdin.flush()

    def wait_for(self, text: str) -> None:
        wait_for(lambda: text in self.text or self._child.poll() is not None, text)
        assert text in self.text, self.text
