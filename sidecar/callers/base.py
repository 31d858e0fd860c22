"""The seams: between services and whoever knows callers, and between that and the policy."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias, TypeVar

from sidecar.core.permission import Permissions
from sidecar.core.process import CallingProcess
from sidecar.errors import CallerRefused

_T = TypeVar("_T")

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]


class Policy(Protocol):
    """Maps callers to what they may have signed; by default nothing."""

    def require_user(self, uid: int) -> None:
        """Raises `CallerRefused` for a user who may have nothing, whatever else is known of him.

        The text is for the log. Never blocks.
        """
        ...

    def permissions(self, process: CallingProcess, bearer: str | None) -> Permissions:
        """What `process`, which presents the token `bearer`, may use now. Never blocks.

        Raises:
            CallerRefused: nothing; the text is for the log, not for the caller.
        """
        ...


class Admitted(Protocol):
    """One call of a caller that was let in. Use it from the event loop."""

    @property
    def process(self) -> CallingProcess:
        """As it was last looked at."""
        ...

    @property
    def permissions(self) -> Permissions:
        """As they are now: they change with the policy."""
        ...

    async def over(self) -> CallerRefused:
        """Waits until the caller may go on no more, and returns why."""
        ...


class Callers(Protocol):
    """Knows every connection's process."""

    def admit(self, peer: str, metadata: Metadata) -> AbstractAsyncContextManager[Admitted]:
        """Lets one call in, for as long as the context is open.

        `peer` and `metadata` are what gRPC says of the call. The process is looked at anew.

        Then send the call's initial metadata before anything else is done for it: gRPC fails to
        if its connection has closed, whose name another connection may have had by then.

        Raises:
            CallerRefused: on entering; the text is for the caller and tells it nothing of others.
        """
        ...


async def while_admitted(admitted: Admitted, work: Coroutine[Any, Any, _T]) -> _T:
    """Runs `work` to its end, or until the caller may go on no more.

    Raises:
        CallerRefused: why it may not; `work` was cancelled.
    """
    working = asyncio.ensure_future(work)
    over = asyncio.ensure_future(admitted.over())
    try:
        await asyncio.wait([working, over], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise over.result()
    finally:
        over.cancel()
        working.cancel()
        await asyncio.gather(working, over, return_exceptions=True)
