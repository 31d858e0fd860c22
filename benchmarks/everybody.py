"""`meshkey` that lets in everybody who reaches its sockets: what there is to compare with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sidecar.app.callers
from sidecar.callers.base import Admitted, Metadata, Policy
from sidecar.callers.forwarded import Forwarded
from sidecar.cli import main
from sidecar.core.journal import Journal
from sidecar.core.permission import Permissions
from sidecar.core.process import CallingProcess
from sidecar.errors import CallerRefused

_OURSELVES = CallingProcess(uid=os.getuid(), gid=os.getgid(), pid=os.getpid())


class Everybody:
    """In the place of `SocketCallers`: whoever calls is the user that we are."""

    def __init__(self, policy: Policy, _forwarded: Forwarded, _journal: Journal) -> None:
        self.policy = policy

    @asynccontextmanager
    async def admit(self, _peer: str, _metadata: Metadata) -> AsyncIterator[Admitted]:
        yield _Somebody(self.policy)

    async def run(self) -> None:
        await asyncio.Event().wait()

    def close(self) -> None:
        pass


class _Somebody:
    process = _OURSELVES

    def __init__(self, policy: Policy) -> None:
        self._permissions = policy.permissions(_OURSELVES, None)

    @property
    def permissions(self) -> Permissions:
        return self._permissions

    async def over(self) -> CallerRefused:
        await asyncio.Event().wait()
        raise AssertionError


if __name__ == "__main__":
    setattr(sidecar.app.callers, "SocketCallers", Everybody)  # noqa: B010  # no subclass
    main()
