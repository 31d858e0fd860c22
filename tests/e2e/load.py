"""Clients that go on asking over mutual TLS while a test changes what they talk to."""

from __future__ import annotations

import ssl
from http.client import HTTPSConnection

from sidecar.demo.processes import wait_for
from tests.e2e.asking import Asking


class Load(Asking):
    """Requests over mutual TLS. New connections present whatever `context` is at the time."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__()
        self.context = context
        self._port = port

    def wait_for_more(self, number: int) -> None:
        enough = self.answered + number
        wait_for(lambda: self.answered >= enough or bool(self.lost), f"{number} more requests")

    def _connection(self) -> HTTPSConnection:
        return HTTPSConnection("127.0.0.1", self._port, timeout=30, context=self.context)
