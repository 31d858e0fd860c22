"""Serves calls of callers that are let in, for as long as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

import grpc.aio

from sidecar.callers.base import Admitted, Callers, while_admitted
from sidecar.errors import CallerRefused, MeshkeyError
from sidecar.rpc.status import status_of
from sidecar.telemetry import CallerCounts

_T = TypeVar("_T")

# How often permissions are looked at while a stream has nothing else to do.
LOOK = timedelta(seconds=1)


class AdmittedCalls:
    """The calls of one service."""

    def __init__(self, callers: Callers, counts: CallerCounts) -> None:
        self._callers = callers
        self._counts = counts

    async def serve(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        work: Callable[[Admitted], Coroutine[Any, Any, _T]],
    ) -> _T:
        """Does the work of a call for whoever calls, until that one may go on no more.

        The call's initial metadata is sent before: who waits for it knows that he was let in.

        Any error of ours, of the caller or of the work, ends the call with its status.
        """
        try:
            metadata = tuple(context.invocation_metadata() or ())
            async with self._callers.admit(context.peer(), metadata) as admitted:
                return await while_admitted(admitted, _begun(context, work, admitted))
        except MeshkeyError as error:
            if isinstance(error, CallerRefused):
                self._counts.refused += 1
            await context.abort(status_of(error), str(error))


async def _begun(
    context: grpc.aio.ServicerContext[Any, Any],
    work: Callable[[Admitted], Coroutine[Any, Any, _T]],
    admitted: Admitted,
) -> _T:
    # gRPC fails to if the connection has closed, and the name by which its process was found
    # may have been another connection's by then.
    await context.send_initial_metadata(())
    return await work(admitted)


async def while_permitted(
    admitted: Admitted, identity: str, work: Coroutine[Any, Any, None]
) -> bool:
    """Runs `work` to its end, or until the caller may not follow `identity` any more.

    Returns whether the caller still may; otherwise `work` was cancelled.
    """
    working = asyncio.ensure_future(work)
    try:
        while identity in admitted.permissions:
            done, _ = await asyncio.wait([working], timeout=LOOK.total_seconds())
            if done:
                working.result()
                return True
        return False
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
