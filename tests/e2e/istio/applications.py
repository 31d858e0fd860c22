"""The applications in the pods: each tells what reached it."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import grpc

from tests.e2e.istio.relay import Address

GRPC_METHOD = "/echo.Echo/Say"
_TIMEOUT_S = 30.0
_XFCC = "x-forwarded-client-cert"


class _HttpHandler(BaseHTTPRequestHandler):
    """Answers with the request's headers, as JSON."""

    protocol_version = "HTTP/1.1"
    # Headers and body in one segment: two would wait for each other's acknowledgement.
    wbufsize = -1

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({**headers, ":path": self.path}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Silent."""


class _ForwardingHandler(_HttpHandler):
    """Passes requests on to a port of this machine, each on a connection of its own."""

    def __init__(self, host: str, port: int, *arguments: Any) -> None:
        self._host, self._port = host, port
        super().__init__(*arguments)

    def do_GET(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        with closing(connection):
            connection.request("GET", self.path, headers={"host": self._host})
            response = connection.getresponse()
            body = response.read()
        self.send_response(response.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _EchoHandler(socketserver.BaseRequestHandler):
    """Sends back what it gets, until the other side is done."""

    def handle(self) -> None:
        while octets := self.request.recv(65536):
            self.request.sendall(octets)


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_request: object) -> None:
        """Silent: a connection that ends early is what some tests are about."""


class _EchoServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, *_request: object) -> None:
        """Silent: see above."""


class SocketApplication:
    """HTTP or echo at an address, while its context is open."""

    def __init__(self, server: socketserver.TCPServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> SocketApplication:
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


def http_application(address: Address) -> SocketApplication:
    return SocketApplication(_HttpServer(address, _HttpHandler))


def forwarding_application(address: Address, host: str, port: int) -> SocketApplication:
    return SocketApplication(_HttpServer(address, partial(_ForwardingHandler, host, port)))


def echo_application(address: Address) -> SocketApplication:
    return SocketApplication(_EchoServer(address, _EchoHandler))


def said_back(address: Address, context: ssl.SSLContext) -> bytes:
    """What an echo behind TLS answers to "hello"; nothing if the connection is ended."""
    with (
        socket.create_connection(address, _TIMEOUT_S) as plain,
        context.wrap_socket(plain) as connection,
    ):
        try:
            connection.sendall(b"hello")
            return connection.recv(1024)
        except OSError:
            return b""


class GrpcApplication:
    """Answers a call with its octets; the trailers say who called, as HTTP/2 brought it."""

    def __init__(self, address: Address) -> None:
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_say)
        service, method = GRPC_METHOD.strip("/").split("/")
        self._workers = ThreadPoolExecutor(4)
        self._server = grpc.server(self._workers)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
        host, port = address
        self._server.add_insecure_port(f"{host}:{port}")

    def __enter__(self) -> GrpcApplication:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(None).wait()
        self._workers.shutdown()


def _say(request: bytes, context: grpc.ServicerContext) -> bytes:
    caller = dict(context.invocation_metadata()).get(_XFCC, "")
    context.set_trailing_metadata((("caller", caller),))
    return request
