"""TLS peers that do as tests tell them, over Python's ssl (OpenSSL)."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import h2.config
import h2.connection
import h2.events
from cryptography import x509

_TIMEOUT_S = 30.0
GET = b"GET /reached HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n"


class Files(Protocol):
    """PEM files of a certificate chain and its key."""

    @property
    def chain(self) -> Path: ...
    @property
    def key(self) -> Path: ...


def client_context(credentials: Files | None, *alpn: str) -> ssl.SSLContext:
    """Presents `credentials`; takes every server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _completed(context, credentials, alpn)


def server_context(credentials: Files, roots: Path, *alpn: str) -> ssl.SSLContext:
    """Presents `credentials`; takes every client with a certificate of `roots`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(roots)
    return _completed(context, credentials, alpn)


def _completed(
    context: ssl.SSLContext, credentials: Files | None, alpn: tuple[str, ...]
) -> ssl.SSLContext:
    if credentials:
        context.load_cert_chain(credentials.chain, credentials.key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@dataclass(frozen=True)
class Answer:
    """All that came back, and how it ended: an alert's name, "reset", or "" for a clean end."""

    octets: bytes
    end: str

    @property
    def status(self) -> int:
        """Of an HTTP/1.1 response; 0 if there is none."""
        first = self.octets.partition(b"\r\n")[0].split()
        return int(first[1]) if first and first[0] == b"HTTP/1.1" else 0

    @property
    def body(self) -> bytes:
        return self.octets.partition(b"\r\n\r\n")[2]


def connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), _TIMEOUT_S))


def call(port: int, context: ssl.SSLContext, request: bytes = GET) -> Answer:
    """Connects, sends `request`, reads until the other side has closed."""
    return _exchange(lambda: connect(port, context), request)


def ask_on(connection: ssl.SSLSocket) -> bytes:
    """The beginning of the answer to a request on a connection that stays open."""
    connection.sendall(GET.replace(b"connection: close\r\n", b""))
    return connection.recv(65536)


def call_unix(path: Path, context: ssl.SSLContext) -> Answer:
    """`call` over a Unix socket."""
    plain = socket.socket(socket.AF_UNIX)
    plain.settimeout(_TIMEOUT_S)
    plain.connect(str(path))
    return _exchange(lambda: context.wrap_socket(plain), GET)


def _exchange(connect: Callable[[], ssl.SSLSocket], request: bytes) -> Answer:
    octets = b""
    try:
        with connect() as connection:
            connection.sendall(request)
            while part := connection.recv(65536):
                octets += part
    except ssl.SSLError as error:
        return Answer(octets, error.reason or "tls error")
    except ConnectionError:
        return Answer(octets, "reset")
    return Answer(octets, "")


@dataclass(frozen=True)
class Visit:
    """What became of one connection to a `TlsServer`."""

    error: str = ""
    octets: bytes = b""
    alpn: str | None = None
    sni: str | None = None
    resumed: bool = False
    certificate: x509.Certificate | None = None


class TlsServer:
    """Answers each connection with the context that it has at the time.

    Every HTTP/1.1 request is answered with 200; connections end when the peer ends them.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.visits: list[Visit] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    def __enter__(self) -> TlsServer:
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

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                connection.settimeout(_TIMEOUT_S)
                self.visits.append(self._visit(connection))

    def _visit(self, plain: socket.socket) -> Visit:
        octets = b""
        names: list[str | None] = []
        self.context.sni_callback = lambda _connection, name, _context: names.append(name)
        try:
            with self.context.wrap_socket(plain, server_side=True) as connection:
                der = connection.getpeercert(binary_form=True)
                alpn, resumed = connection.selected_alpn_protocol(), connection.session_reused
                while part := connection.recv(65536):
                    octets += part
                    if octets.endswith(b"\r\n\r\n"):
                        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except ssl.SSLError as error:
            return Visit(error=error.reason or "tls error", octets=octets)
        except OSError as error:
            return Visit(error=type(error).__name__, octets=octets)
        certificate = x509.load_der_x509_certificate(der) if der else None
        return Visit("", octets, alpn, names[0], bool(resumed), certificate)


class Crowded(TlsServer):
    """Has no room for a connection, so that connecting takes its time, until `make_room`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context)
        self._listening.listen(0)
        self._crowd = [_attempt(self.port) for _ in range(4)]

    def __enter__(self) -> Crowded:
        return self

    def make_room(self) -> None:
        for connection in self._crowd:
            connection.close()
        super().__enter__()


def _attempt(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex(("127.0.0.1", port))
    return connection


class Http2Client:
    """One HTTP/2 connection, one request at a time, without any check of what it sends."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._socket = connect(port, context)
        assert self._socket.selected_alpn_protocol() == "h2"
        self._connection = h2.connection.H2Connection(
            h2.config.H2Configuration(
                validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        self._connection.initiate_connection()
        self._flush()

    def __enter__(self) -> Http2Client:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def get(self, path: str, *headers: tuple[str, str]) -> int:
        """The status of the answer; 0 if the stream or the connection was ended instead."""
        stream = self._connection.get_next_available_stream_id()
        self._connection.send_headers(
            stream,
            [
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "server"),
                (":path", path),
                *headers,
            ],
            end_stream=True,
        )
        self._flush()
        status = 0
        while octets := self._socket.recv(65536):
            for event in self._connection.receive_data(octets):
                match event:
                    case h2.events.ResponseReceived():
                        status = int(dict(event.headers or [])[b":status"])
                    case h2.events.StreamEnded():
                        self._flush()
                        return status
                    case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                        return 0
            self._flush()
        return 0

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())
