"""One stream: requests in, responses out, and what happens between them is an exchange's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from sidecar.errors import DiscoveryRefused
from sidecar.sds.followed import Followed

_Request_contra = TypeVar("_Request_contra", contravariant=True)
_Response_co = TypeVar("_Response_co", covariant=True)
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Exchange(Protocol[_Request_contra, _Response_co]):
    """The rules of one of the two protocols."""

    def receive(self, request: _Request_contra) -> None: ...
    def response(self) -> _Response_co | None: ...


class SecretStream(Generic[_Request, _Response]):
    """Reads and writes side by side.

    A response is made when the one before is written: who reads slowly gets the newest state,
    late, and keeps one response waiting, here and nowhere else.
    """

    def __init__(self, exchange: Exchange[_Request, _Response], followed: Followed) -> None:
        self._exchange = exchange
        self._followed = followed

    async def run(
        self,
        requests: AsyncIterator[_Request | DiscoveryRefused],
        write: Callable[[_Response], Awaitable[None]],
    ) -> None:
        """Returns when the client has closed its side.

        Raises:
            MeshkeyError: what to end the stream with.
        """
        news = self._followed.news
        reader = asyncio.create_task(self._read(requests))
        reader.add_done_callback(lambda _task: news.set())
        try:
            while not reader.done():
                news.clear()
                while (response := self._exchange.response()) is not None:
                    await write(response)
                await news.wait()
            reader.result()
        finally:
            reader.cancel()
            self._followed.close()

    async def _read(self, requests: AsyncIterator[_Request | DiscoveryRefused]) -> None:
        async for request in requests:
            if isinstance(request, DiscoveryRefused):
                raise request
            self._exchange.receive(request)
