"""Callers of whom a test says what they may have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sidecar.callers.base import Metadata
from sidecar.core.permission import Permissions
from sidecar.core.process import CallingProcess
from sidecar.core.purpose import SigningPurpose
from sidecar.errors import CallerRefused

SOMEBODY = CallingProcess(uid=101, gid=102, pid=7)


def everything_of(*names: str) -> Permissions:
    """All that the keys of these identities may sign."""
    return dict.fromkeys(names, frozenset(SigningPurpose))


@dataclass(eq=False)
class AdmittedFake:
    """Implements `Admitted`."""

    permissions: Permissions
    process: CallingProcess = SOMEBODY
    _over: asyncio.Future[CallerRefused] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    async def over(self) -> CallerRefused:
        return await asyncio.shield(self._over)

    def end(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(CallerRefused(reason))


class Everyone:
    """Implements `Callers`: every caller is one and the same process.

    Strict as the real ones: who may have nothing is not let in, and is put out.
    """

    def __init__(self, *names: str, process: CallingProcess = SOMEBODY) -> None:
        self._permissions = everything_of(*names)
        self._process = process
        self._calls: set[AdmittedFake] = set()

    def allow(self, permissions: Permissions) -> None:
        """These from now on, also for calls that were let in before."""
        self._permissions = permissions
        for call in self._calls:
            call.permissions = permissions
            if not permissions:
                call.end("the rules have changed")

    @property
    def calls(self) -> Collection[AdmittedFake]:
        """Those that are let in now."""
        return self._calls

    @asynccontextmanager
    async def admit(
        self,
        peer: str,  # noqa: ARG002  # whoever it is
        metadata: Metadata,  # noqa: ARG002
    ) -> AsyncIterator[AdmittedFake]:
        if not self._permissions:
            raise CallerRefused("not you")
        call = AdmittedFake(self._permissions, self._process)
        self._calls.add(call)
        try:
            yield call
        finally:
            self._calls.discard(call)
