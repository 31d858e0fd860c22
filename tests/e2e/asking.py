"""Clients that go on asking while a test changes what they talk to, and what became of that."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Self


class Asking(ABC):
    """Two at a time: one keeps its connection, one makes a new one for each request."""

    def __init__(self) -> None:
        self.answered = 0
        self.lost: list[str] = []
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=run, daemon=True) for run in (self._keeping, self._new)
        ]

    @abstractmethod
    def _connection(self) -> HTTPConnection:
        """A new one, not connected yet."""

    def __enter__(self) -> Self:
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

    def _new(self) -> None:
        while not self._ended.is_set():
            with closing(self._connection()) as connection:
                self._ask(connection)

    def _keeping(self) -> None:
        with closing(self._connection()) as connection:
            while not self._ended.is_set():
                self._ask(connection)

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
