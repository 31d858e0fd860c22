"""Our own ends of the connections whose other ends have a name of ours.

gRPC tells which name a call's connection has at its other end, and nothing of the process there:
that the kernel says of our own descriptor, which is found by the name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# An abstract name (unix(7)) of 128 random bits. The kernel gives each out once at a time, but in
# each network namespace, and all in it may read it in /proc/net/unix: it identifies a
# connection and is no secret.
_NAME = re.compile(r"meshkey-(?:proxy-)?[0-9a-f]{32}")
# How gRPC writes that. It puts other bytes than these as %XX.
_PREFIX = "unix-abstract:"
# asm-generic/socket.h, Linux 4.12: a number that no other socket has until the next boot.
_SO_COOKIE = 57
_COOKIE_BYTES = 8
_NO_CONNECTION = {errno.EBADF, errno.ENOTSOCK, errno.ENOTCONN, errno.EINVAL}


def name_in(peer: str) -> str | None:
    """The name in gRPC's text for the other end of a call, if it is one of ours."""
    name = peer.removeprefix(_PREFIX)
    return name if name != peer and _NAME.fullmatch(name) else None


@dataclass(frozen=True)
class Accepted:
    """A connection of this process, by a duplicate of its descriptor."""

    name: str
    cookie: int
    connection: socket.socket


@contextmanager
def accepted() -> Iterator[list[Accepted]]:
    """All that are open, in any order. Their duplicates are closed at the end.

    A connection is here until its own descriptor is closed, also after its other end was.

    Raises:
        OSError: we are out of descriptors; some were not looked at.
    """
    found: dict[int, Accepted] = {}
    try:
        for descriptor in Path("/proc/self/fd").iterdir():
            if connection := _duplicate(int(descriptor.name)):
                # The list holds the number with which it was read, which a duplicate has now.
                if connection.cookie in found:
                    connection.connection.close()
                else:
                    found[connection.cookie] = connection
        yield list(found.values())
    finally:
        for each in found.values():
            each.connection.close()


def _duplicate(descriptor: int) -> Accepted | None:
    if _peer_name(descriptor) is None:
        return None
    try:
        duplicate = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 0)
    except OSError as error:
        # Another failure must not hide a second connection with the same name.
        if error.errno == errno.EBADF:
            return None
        raise
    # Once more: another thread may have closed the descriptor and opened another one with its
    # number. The duplicate stays what it is.
    name = _peer_name(duplicate)
    if name is None:
        os.close(duplicate)
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=duplicate)
    cookie = connection.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, _COOKIE_BYTES)
    return Accepted(name, int.from_bytes(cookie, "little"), connection)


def _peer_name(descriptor: int) -> str | None:
    """The name of ours that the other end has. Any descriptor may be given."""
    try:
        borrowed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=descriptor)
        try:
            address = borrowed.getpeername()
        finally:
            borrowed.detach()
    except OSError as error:
        if error.errno in _NO_CONNECTION:
            return None
        raise
    # Paths, and Internet addresses, are no bytes.
    if not isinstance(address, bytes) or address[:1] != b"\0":
        return None
    name = address[1:].decode("latin-1")
    return name if _NAME.fullmatch(name) else None
