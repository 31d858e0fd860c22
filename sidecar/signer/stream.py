"""One SignStream call: many requests at once, answered as the token gets done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.callers.base import Admitted
from sidecar.errors import SigningRefused
from sidecar.signer.signatures import Signatures
from sidecar.token.executor import Caller

# Requests of one stream whose answers are not written yet; past that it is left unread, so
# that a caller that asks and does not listen costs no more than this.
_IN_FLIGHT = 512


class SignStream:
    """Reads requests and writes answers side by side; no request waits for another.

    All answers that are there travel in one message.
    """

    def __init__(self, signatures: Signatures, admitted: Admitted, caller: Caller) -> None:
        self._signatures = signatures
        self._admitted = admitted
        self._room = asyncio.Semaphore(_IN_FLIGHT)
        self._caller = caller
        self._answers: list[pb.SignResponse] = []
        self._unanswered = 0
        self._ended = False
        self._broken: Exception | None = None
        self._news = asyncio.Event()

    async def run(
        self,
        requests: AsyncIterator[pb.SignRequests | SigningRefused],
        write: Callable[[pb.SignResponses], Awaitable[None]],
    ) -> None:
        """Returns when the caller has closed its side and every request is answered.

        A bug ends the stream: its caller opens another one, instead of waiting for an answer.
        """
        reader = asyncio.create_task(self._read(requests))
        try:
            while not self._ended or self._unanswered or self._answers:
                await self._news.wait()
                self._news.clear()
                if self._broken is not None:
                    raise self._broken
                if answers := self._answers:
                    self._answers = []
                    await write(pb.SignResponses(responses=answers))
                    self._make_room(len(answers))
        finally:
            self._caller.gone = True
            reader.cancel()

    async def _read(self, requests: AsyncIterator[pb.SignRequests | SigningRefused]) -> None:
        try:
            async for batch in requests:
                # Of a malformed batch nobody knows what was in it: one answer for all.
                parts = [batch] if isinstance(batch, SigningRefused) else batch.requests
                for request in parts:
                    await self._room.acquire()
                    self._unanswered += 1
                    # As they are now, which may be less than when the stream began.
                    permissions = self._admitted.permissions
                    self._signatures.begin(request, self._answer, self._caller, permissions)
        except Exception as error:  # noqa: BLE001  # `run` raises it
            self._broken = error
        finally:
            self._ended = True
            self._news.set()

    def _answer(self, answer: pb.SignResponse) -> None:
        self._unanswered -= 1
        self._answers.append(answer)
        self._news.set()

    def _make_room(self, answers: int) -> None:
        for _ in range(answers):
            self._room.release()
