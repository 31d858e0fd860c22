"""Users who go on asking while a mesh changes, and a count of what became of their requests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from types import TracebackType

from sidecar.demo.processes import wait_for
from tests.e2e.istio.relay import Address

_TIMEOUT_S = 30.0


class Users:
    """Two at a time: one keeps its connection, one makes a new one for each request."""

    def __init__(self, address: Address) -> None:
        self.answered = 0
        self.lost: list[str] = []
        self._address = address
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=run, daemon=True) for run in (self._keeping, self._new)
        ]

    def __enter__(self) -> Users:
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

    def go_on_until(self, condition: Callable[[], bool], what: str) -> None:
        """Until it holds, and more requests are answered after that."""
        wait_for(lambda: condition() or bool(self.lost), what)
        enough = self.answered + 10
        wait_for(lambda: self.answered >= enough or bool(self.lost), f"requests after {what}")
        assert not self.lost, self.lost

    def _new(self) -> None:
        while not self._ended.is_set():
            with closing(self._connection()) as connection:
                self._ask(connection)

    def _keeping(self) -> None:
        with closing(self._connection()) as connection:
            while not self._ended.is_set():
                self._ask(connection)

    def _connection(self) -> HTTPConnection:
        return HTTPConnection(*self._address, timeout=_TIMEOUT_S)

    def _ask(self, connection: HTTPConnection) -> None:
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            self.lost.append(repr(error))
            connection.close()
            return
        if response.status == HTTPStatus.OK:
            self.answered += 1
        else:
            self.lost.append(f"{response.status} {body.decode(errors='replace')}")
