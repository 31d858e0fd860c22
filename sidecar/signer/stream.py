"""One SignStream call: many requests at once, answered as the token gets done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.signer.requests import DecodedRequest
from sidecar.signer.signatures import Signatures

# Answers that one stream may be waiting for; past that its requests are left unread.
_IN_FLIGHT = 512


class SignStream:
    """Reads requests and writes answers side by side; no request waits for another."""

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures
        self._answers: asyncio.Queue[pb.SignResponse | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_IN_FLIGHT)
        self._unanswered = 0
        self._ended = False

    async def run(
        self,
        requests: AsyncIterator[DecodedRequest],
        write: Callable[[pb.SignResponse], Awaitable[None]],
    ) -> None:
        """Returns when the caller has closed its side and every request is answered."""
        reader = asyncio.create_task(self._read(requests))
        try:
            while (answer := await self._answers.get()) is not None:
                await write(answer)
        finally:
            reader.cancel()

    async def _read(self, requests: AsyncIterator[DecodedRequest]) -> None:
        try:
            async for request in requests:
                await self._room.acquire()
                self._unanswered += 1
                self._signatures.begin(request, self._answer)
        finally:
            self._ended = True
            self._end_if_all_answered()

    def _answer(self, answer: pb.SignResponse) -> None:
        self._unanswered -= 1
        self._room.release()
        self._answers.put_nowait(answer)
        self._end_if_all_answered()

    def _end_if_all_answered(self) -> None:
        if self._ended and not self._unanswered:
            self._answers.put_nowait(None)
