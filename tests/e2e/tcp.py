"""TCP servers without TLS, for what is behind or beside an Envoy."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType

BANNER = b"220 ready when you are\r\n"
_TIMEOUT_S = 30.0


class TcpServer:
    """Serves each connection on a thread; `accepted` counts them, `octets` is what they sent.

    With a banner it speaks first. At the end of what a client sends it tells how much that
    was, and closes.
    """

    def __init__(self, banner: bytes = b"") -> None:
        self.accepted = 0
        self.octets = b""
        self._banner = banner
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    def __enter__(self) -> TcpServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.accepted += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.settimeout(_TIMEOUT_S)
            connection.sendall(self._banner)
            received = 0
            while part := connection.recv(65536):
                self.octets += part
                received += len(part)
            connection.sendall(f"{received} octets, and then the end".encode())


def read_all(connection: socket.socket) -> bytes:
    """Until the other side has closed."""
    octets = b""
    while part := connection.recv(65536):
        octets += part
    return octets


def plaintext(port: int) -> bytes:
    """What an HTTP request without TLS gets."""
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as connection:
        connection.sendall(b"GET /plaintext HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n")
        try:
            return read_all(connection)
        except ConnectionError:
            return b""
