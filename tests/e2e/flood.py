"""Peers that begin handshakes, cost their server a signature, and never finish."""

from __future__ import annotations

import functools
import socket
import ssl
import threading
from contextlib import suppress
from types import TracebackType

_TIMEOUT_S = 30.0


@functools.cache
def client_hello() -> bytes:
    """One that any server for TLS 1.3 answers; the same each time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing)
    with suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def begin(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection on which a ClientHello has been sent, and nothing more will be.

    All of 127.0.0.0/8 is this machine: `source` may be any address of it.
    """
    connection = socket.create_connection(("127.0.0.1", port), _TIMEOUT_S, (source, 0))
    connection.sendall(client_hello())
    return connection


def answered(connection: socket.socket) -> bool:
    """Whether the server went on with the handshake, and did not send an alert or close."""
    try:
        return connection.recv(1024)[:1] == b"\x16"
    except ConnectionError:
        return False


class Flood:
    """As many handshakes as a port takes, from `width` connections at a time, while open.

    Half of them go as soon as they have had the server's answer, half of them before.
    """

    def __init__(self, port: int, width: int) -> None:
        self.begun = 0
        self._port = port
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number % 2 == 0,), daemon=True)
            for number in range(width)
        ]

    def __enter__(self) -> Flood:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, patient: bool) -> None:
        while not self._over.is_set():
            with suppress(OSError), begin(self._port) as connection:
                self.begun += 1
                if patient:
                    answered(connection)
