"""What Istio's agent does with the SDS socket at its start, and nothing else of it.

After pkg/istio-agent/agent.go at istio/istio eed52ebb66ad (2026-08-27): `Run` (the name, and what
follows from each state of the socket), `checkSocket`, `socketFileExists` (whatever is there and
no regular file is one), `socketHealthCheck` (a gRPC dial that is ready within a second), and
`initSdsServer`; its own server's socket after security/pkg/nodeagent/sds/server.go and
pkg/uds/listener.go.

The rules: the directory is fixed and WORKLOAD_IDENTITY_SOCKET_FILE is a bare name. A socket that
does not answer is deleted, and if it cannot be, the agent ends. With no socket, the agent ends
under every name but the default one; under that it serves keys itself, from its own memory.
That is looked at once, at its start. `Decision.OWN_KEYS` is the agent failing open.
tests/integration/istio/test_agent_double.py compares this with those functions themselves.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import grpc

from tests.fixtures.waiting import BOUND_S

DEFAULT_NAME = "socket"
_DIAL_S = 1.0


class Decision(StrEnum):
    """How the start of an agent went on."""

    # Envoy gets its secrets from the socket that was there.
    EXTERNAL = "external"
    # The agent serves on the default socket: a key in its memory, and in Envoy's.
    OWN_KEYS = "own keys"
    # It would, and cannot have a socket there: it goes on without, and Envoy waits for ever.
    NO_SECRETS = "no secrets"
    ENDED = "ended"


@dataclass(frozen=True)
class Start:
    """One start of an agent."""

    decision: Decision
    # Of an end, or why it has no socket.
    reason: str = ""
    # A socket that did not answer, and is gone now.
    deleted: bool = False


def start_agent(directory: Path, name: str, before: Sequence[str] = ()) -> Start:
    """The start of an agent as a process of its own, to which `before` leads."""
    # Its own variable may not hold a path: so the directory is an argument.
    program = [*before, sys.executable, "-m", __name__, str(directory), name]
    ran = subprocess.run(
        program, capture_output=True, text=True, timeout=BOUND_S, check=False, env=_environment()
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    return Start(Decision(told["decision"]), told["reason"], told["deleted"])


def decide(directory: Path, name: str) -> Start:
    """The same within this process."""
    if name != os.path.basename(name):  # noqa: PTH119  # of ".." pathlib says that it has no name
        return Start(Decision.ENDED, f"must be a filename, not a path: {name}")
    path = directory / name
    deleted = False
    if _is_there(path):
        if _answers(path):
            return Start(Decision.EXTERNAL)
        try:
            _remove(path)
        except OSError as error:
            reason = f"existing SDS socket could not be removed: {error.strerror}"
            return Start(Decision.ENDED, reason)
        deleted = True
    if name != DEFAULT_NAME:
        return Start(Decision.ENDED, "no socket found", deleted)
    return _own(path, deleted=deleted)


def _is_there(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _remove(path: Path) -> None:
    """As Go's os.Remove, which takes an empty directory, too."""
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()


def _answers(path: Path) -> bool:
    """Ready is a channel whose other side has sent the first frame of HTTP/2."""
    channel = grpc.insecure_channel(
        f"unix:{path}", options=[("grpc.default_authority", "localhost")]
    )
    try:
        grpc.channel_ready_future(channel).result(_DIAL_S)
    except grpc.FutureTimeoutError:
        return False
    finally:
        channel.close()
    return True


def _own(path: Path, *, deleted: bool) -> Start:
    """A socket that is open to everybody, and stays there when this is over."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o666)
        except OSError as error:
            return Start(Decision.NO_SECRETS, str(error.strerror), deleted)
    return Start(Decision.OWN_KEYS, "", deleted)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


if __name__ == "__main__":
    made = decide(Path(sys.argv[1]), sys.argv[2])
    sys.stdout.write(
        json.dumps({"decision": made.decision, "reason": made.reason, "deleted": made.deleted})
    )
