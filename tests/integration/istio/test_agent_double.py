"""The double of Istio's agent decides what the agent's own code does."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from tests.fakes.istio_agent import DEFAULT_NAME, Decision, Start, start_agent
from tests.fixtures import istiod
from tests.fixtures.istio_pod import as_user, read_only
from tests.fixtures.users import IS_ROOT

Make = Callable[[Path, ExitStack], object]


def _nothing(_path: Path, _stack: ExitStack) -> None:
    pass


def _server(path: Path, stack: ExitStack) -> None:
    server = grpc.server(stack.enter_context(ThreadPoolExecutor(1)))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    stack.callback(lambda: server.stop(None).wait())
    path.chmod(0o777)


def _silent(path: Path, stack: ExitStack) -> None:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    listener.bind(str(path))
    listener.listen()
    path.chmod(0o777)


def _dead(path: Path, _stack: ExitStack) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))


def _file(path: Path, _stack: ExitStack) -> None:
    path.touch()


def _directory(path: Path, _stack: ExitStack) -> None:
    path.mkdir()


def _dangling_link(path: Path, _stack: ExitStack) -> None:
    path.symlink_to("nowhere")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("name", [DEFAULT_NAME, "meshkey.sock"])
@pytest.mark.parametrize("place", ["own", "other user's", "read-only"])
@pytest.mark.parametrize(
    "make", [_nothing, _server, _silent, _dead, _file, _directory, _dangling_link]
)
def test_both_come_to_the_same_and_leave_the_same(
    short_dir: Path, stack: ExitStack, make: Make, place: str, name: str
) -> None:
    if place != "own" and not IS_ROOT:
        pytest.skip("only root can mount, or start a process of another user")
    short_dir.chmod(0o755)
    for directory in ("double", "real"):
        (short_dir / directory).mkdir()
        (short_dir / directory).chmod(0o755)
        make(short_dir / directory / name, stack)
    before = [_before(place, short_dir / directory) for directory in ("double", "real")]
    # Each may wait for its dial: both at once.
    with ThreadPoolExecutor() as starts:
        asked = starts.submit(start_agent, short_dir / "double", name, before[0])
        real = _real_start(short_dir / "real" / name, before[1])
        double = asked.result()
    assert (double.decision, double.deleted) == (real.decision, real.deleted)
    if real.reason:
        assert real.reason.startswith(double.reason.partition(":")[0])


def _before(place: str, directory: Path) -> Sequence[str]:
    """What leads to a process for which `directory` is that."""
    return {
        "own": (),
        "other user's": as_user("proxy"),
        "read-only": read_only(directory),
    }[place]


def _real_start(path: Path, before: Sequence[str]) -> Start:
    """What the agent's own functions say, put together as its `Run` does."""
    was_there = os.path.lexists(path)
    look = istiod.looked(path, serve=path.name == DEFAULT_NAME, before=before)
    deleted = was_there and not look.there
    if look.error:
        return Start(Decision.ENDED, look.error, deleted)
    if look.found:
        return Start(Decision.EXTERNAL)
    if path.name != DEFAULT_NAME:
        return Start(Decision.ENDED, deleted=deleted)
    return Start(Decision.OWN_KEYS if look.serves else Decision.NO_SECRETS, deleted=deleted)
