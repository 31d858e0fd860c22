"""The application behind the server's Envoy: it remembers what reached it."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from sidecar.demo.processes import wait_for

_BOUND_S = 60.0


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of every header of that name, in order."""
        return [value for header, value in self.headers if header.lower() == name]


class Application:
    """Answers on a free loopback port while its context is open.

    `GET /bytes/<n>` gives n octets (`content`), `GET /together/<n>` answers when n requests
    are there at once, everything else is told the SHA-256 of its body.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.together = 0
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def forget(self) -> None:
        self.requests.clear()
        self.together = 0

    def __enter__(self) -> Application:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request) -> bytes:
        self.requests.append(request)
        kind, _, number = request.path.strip("/").partition("/")
        if kind == "bytes":
            return content(int(number))
        if kind == "together":
            self.together += 1
            wait_for(lambda: self.together >= int(number), f"{number} requests at once", _BOUND_S)
        return hashlib.sha256(request.body).hexdigest().encode()


def content(size: int) -> bytes:
    """Octets whose order matters: no two blocks of them are alike."""
    blocks = (number.to_bytes(8, "big") for number in range(-(-size // 8)))
    return b"".join(blocks)[:size]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_request: object) -> None:
        """Silent: a connection that ends early is what some tests are about."""


def _handler(application: Application) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body in one segment: two would wait for each other's acknowledgement.
        wbufsize = -1

        def do_POST(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            body = application.answer(
                Request(
                    self.command,
                    self.path,
                    tuple(self.headers.items()),
                    self._body(),
                )
            )
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length", "0")))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def log_message(self, *_arguments: object) -> None:
            """Silent."""

    return Handler
