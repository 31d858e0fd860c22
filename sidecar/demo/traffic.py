"""Requests that go on in the background, and a count of what became of them."""

from __future__ import annotations

import http.client
import ssl
import threading
from types import TracebackType

from sidecar.demo.credentials import FileCredentials


def get(port: int, path: str = "/") -> tuple[int, str]:
    """One request on a connection of its own; status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def get_mutual_tls(port: int, credentials: FileCredentials) -> tuple[int, str]:
    """One request over mutual TLS, with a key in a file. It does not check the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(credentials.chain, credentials.key)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Traffic:
    """Requests to one port, one after the other, while its context is open."""

    def __init__(self, port: int) -> None:
        self.answered = 0
        self.lost: list[str] = []
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                status, body = get(self._port)
            except OSError as error:
                self.lost.append(repr(error))
                continue
            if status == http.HTTPStatus.OK:
                self.answered += 1
            else:
                self.lost.append(f"{status} {body.strip()}")
