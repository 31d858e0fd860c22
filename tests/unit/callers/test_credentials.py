"""Which process has connected, and that it is not taken for a later one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sidecar.callers import credentials
from sidecar.callers.credentials import Credentials, Peer
from sidecar.callers.kernel import PidIdentity
from sidecar.errors import CallerRefused
from tests.fixtures.waiting import eventually

_CONNECT = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); input()"
_WAYS = [PidIdentity.PEER_PIDFD, PidIdentity.START_TIME]


@contextmanager
def connected(directory: Path) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """Our end of the connection of a child, and the child."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "s"))
        listener.listen()
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", _CONNECT, directory / "s"], stdin=subprocess.PIPE
        )
        try:
            ours, _ = listener.accept()
            with ours:
                yield ours, child
        finally:
            child.kill()
            child.communicate()


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("how", _WAYS)
def test_the_process_that_connected(short_dir: Path, how: PidIdentity) -> None:
    with connected(short_dir) as (ours, child), closing(Peer.of(ours, how)) as peer:
        assert peer.credentials == Credentials(os.getuid(), os.getgid(), child.pid)
        assert not peer.ended
        child.kill()
        eventually(lambda: peer.ended)


@pytest.mark.parametrize("how", _WAYS)
def test_a_process_that_has_ended_is_never_another_one(short_dir: Path, how: PidIdentity) -> None:
    with connected(short_dir) as (ours, child):
        child.kill()
        child.wait()
        try:
            peer = Peer.of(ours, how)
        except CallerRefused as refused:
            assert "has ended" in str(refused)  # noqa: PT017  # not all kernels refuse
        else:
            with closing(peer):
                assert peer.ended


def test_a_number_that_is_given_to_another_process_meanwhile_is_refused(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = iter([1000, 2000])
    monkeypatch.setattr(credentials, "process_start", lambda _pid: next(starts))
    with connected(short_dir) as (ours, _child):
        before = _open_descriptors()
        with pytest.raises(CallerRefused, match="is another one now"):
            Peer.of(ours, PidIdentity.START_TIME)
        assert _open_descriptors() == before


def test_without_any_way_nobody_is_known(short_dir: Path) -> None:
    with (
        connected(short_dir) as (ours, _child),
        pytest.raises(CallerRefused, match="neither SO_PEERPIDFD"),
    ):
        Peer.of(ours, PidIdentity.NONE)


def test_a_user_that_stands_for_several_is_refused(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "unknown_user", os.getuid)
    with (
        connected(short_dir) as (ours, _child),
        pytest.raises(CallerRefused, match="this user namespace does not know"),
    ):
        Peer.of(ours)


def test_a_process_that_we_cannot_see_has_no_number(short_dir: Path) -> None:
    ours, other = socket.socketpair()
    with ours, other:
        peer = Peer(Credentials(1, 2, 0), credentials._pidfd(ours, 0, PidIdentity.START_TIME))
        assert peer.pidfd is None
        assert not peer.ended


def test_what_is_closed_is_not_duplicated(short_dir: Path) -> None:
    with connected(short_dir) as (ours, _child):
        peer = Peer.of(ours)
        with closing(peer.duplicate()) as other:
            peer.close()
            peer.close()
            assert not other.ended
            with pytest.raises(CallerRefused, match="closed"):
                peer.duplicate()
