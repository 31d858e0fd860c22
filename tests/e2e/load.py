"""Clients that go on asking over mutual TLS while a test changes what they talk to."""

from __future__ import annotations

import http.client
import ssl
import threading
from contextlib import closing
from types import TracebackType

from sidecar.demo.processes import wait_for


class Load:
    """Requests over mutual TLS: one client keeps its connection, one makes a new one each time.

    New connections present whatever `context` is at the time.
    """

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.context = context
        self.answered = 0
        self.lost: list[str] = []
        self._port = port
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=run, daemon=True) for run in (self._keeping, self._new)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, number: int) -> None:
        enough = self.answered + number
        wait_for(lambda: self.answered >= enough or bool(self.lost), f"{number} more requests")

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self._port, timeout=30, context=self.context
        )

    def _new(self) -> None:
        while not self._ended.is_set():
            with closing(self._connection()) as connection:
                self._ask(connection)

    def _keeping(self) -> None:
        with closing(self._connection()) as connection:
            while not self._ended.is_set():
                self._ask(connection)

    def _ask(self, connection: http.client.HTTPSConnection) -> None:
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self.lost.append(repr(error))
            return
        if response.status == http.HTTPStatus.OK:
            self.answered += 1
        else:
            self.lost.append(str(response.status))
