"""Binds servers to Unix sockets and opens channels to them."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import grpc.aio

from sidecar.errors import StartFailed

# Well above the longest request that is served, and bounded.
_MAX_MESSAGE = 4 * 1024 * 1024

# On each socket. A caller that opens more keeps others out there, but cannot take every file
# descriptor of the process. An Envoy has one, or one for each of its threads.
MAX_CONNECTIONS = 256

# At once, of each server: a call that waits has some 50 KB here. Whoever makes more keeps others
# out there, but does not take the memory of the process. An Envoy has two for each identity, or
# one for each secret.
MAX_CALLS = 4096
# Of one connection: others wait at the client.
MAX_CALLS_OF_CONNECTION = 1024

# A gRPC server takes pings for an attack that come more often than every five minutes, and ends
# the connection. The Envoy module sends one a second: a signer that is frozen keeps its socket.
ALLOW_PINGS = (
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.keepalive_permit_without_calls", 1),
)


def unix_server() -> grpc.aio.Server:
    """A server without a socket yet."""
    return grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", _MAX_MESSAGE),
            ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
            ("grpc.max_concurrent_streams", MAX_CALLS_OF_CONNECTION),
            *ALLOW_PINGS,
        ],
        maximum_concurrent_rpcs=MAX_CALLS,
    )


def bind(server: grpc.aio.Server, path: Path, mode: int, group: int | None = None) -> None:
    """Binds `server` to the Unix socket `path`, whose mode is at no time wider than `mode`.

    It is given to `group`, if there is one. A socket that a dead process left behind is replaced.

    Raises:
        StartFailed: another process answers there, or the directory is missing.
    """
    with _room_for(path, mode, group):
        server.add_insecure_port(f"unix:{path}")


def unix_listener(path: Path, mode: int, group: int | None = None) -> socket.socket:
    """A socket that is bound in the same way and not listened on yet, for other servers."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _room_for(path, mode, group):
            listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    return listener


def unix_channel(path: Path) -> grpc.aio.Channel:
    """A channel to the server behind `path`; it connects when it is used."""
    return grpc.aio.insecure_channel(
        f"unix:{path}",
        options=[
            # The authority of a Unix socket is its path, which HTTP/2 does not allow.
            ("grpc.default_authority", "localhost"),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ],
    )


@contextmanager
def _room_for(path: Path, mode: int, group: int | None = None) -> Iterator[None]:
    """What is bound to `path` within this has `mode` at the end, and less before."""
    if not path.parent.is_dir():
        raise StartFailed(f"socket {path}: {path.parent} is no directory; create it first")
    _make_way(path)
    before = os.umask(0o177)
    try:
        yield
        if group is not None:
            # Before the mode lets a group in.
            os.chown(path, -1, group)
    except (RuntimeError, OSError) as error:
        raise StartFailed(f"socket {path} cannot be bound: {error}") from error
    finally:
        os.umask(before)
    path.chmod(mode)


def _make_way(path: Path) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartFailed(f"socket {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise StartFailed(f"{path} is no socket; move it away or configure another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise StartFailed(
                f"socket {path} is there and cannot be asked: {error.strerror}"
            ) from error
        else:
            raise StartFailed(f"another process serves {path}; stop it first")
