"""The gRPC services of proto/meshkey/admin/v1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import grpc.aio

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar._proto.meshkey.admin.v1 import admin_pb2_grpc
from sidecar.admin.answers import end_response, keys_of
from sidecar.admin.base import Reloads
from sidecar.admin.health import problems_of
from sidecar.admin.observed import Observed
from sidecar.admin.status import status_of
from sidecar.core.journal import NOWHERE, Fact, Journal
from sidecar.core.process import UNKNOWN, CallingProcess
from sidecar.errors import MeshkeyError
from sidecar.identity.registry import DEFAULT, IdentityRegistry
from sidecar.rpc.status import status_of as grpc_status_of
from sidecar.token.base import KeyId

_T = TypeVar("_T")
# Of what somebody gives for a name no more is worth a record.
_LONGEST = 64
_OfIdentity: TypeAlias = pb.RotateRequest | pb.DeprovisionRequest | pb.ReinstateRequest
_StatusContext = grpc.aio.ServicerContext[pb.StatusRequest, pb.StatusResponse]
_HealthContext = grpc.aio.ServicerContext[pb.HealthRequest, pb.HealthResponse]
_KeysContext = grpc.aio.ServicerContext[pb.KeysRequest, pb.KeysResponse]
_RotateContext = grpc.aio.ServicerContext[pb.RotateRequest, pb.RotateResponse]
_RevokeContext = grpc.aio.ServicerContext[pb.RevokeRequest, pb.EndResponse]
_DeprovisionContext = grpc.aio.ServicerContext[pb.DeprovisionRequest, pb.EndResponse]
_ReinstateContext = grpc.aio.ServicerContext[pb.ReinstateRequest, pb.ReinstateResponse]
_ReloadContext = grpc.aio.ServicerContext[pb.ReloadRequest, pb.ReloadResponse]


def _named(request: _OfIdentity) -> str:
    return request.identity[:_LONGEST] or DEFAULT


async def _nobody_knows(_peer: str) -> CallingProcess:
    return UNKNOWN


class ObserverService(admin_pb2_grpc.ObserverServicer):
    """Status, Health and Keys: reads only."""

    def __init__(self, seen: Observed) -> None:
        self._seen = seen

    async def Status(
        self, _request: pb.StatusRequest, context: _StatusContext
    ) -> pb.StatusResponse:
        return status_of(self._seen)

    async def Health(
        self, _request: pb.HealthRequest, context: _HealthContext
    ) -> pb.HealthResponse:
        return pb.HealthResponse(problems=problems_of(self._seen))

    async def Keys(self, _request: pb.KeysRequest, context: _KeysContext) -> pb.KeysResponse:
        return pb.KeysResponse(
            keys=[key for identity in self._seen.registry for key in keys_of(identity)]
        )


class AdminService(admin_pb2_grpc.AdminServicer):
    """Rotate, Revoke, Deprovision, Reinstate and Reload."""

    def __init__(
        self,
        registry: IdentityRegistry,
        reloads: Reloads,
        who: Callable[[str], Awaitable[CallingProcess]] = _nobody_knows,
        journal: Journal = NOWHERE,
    ) -> None:
        """`who` says which process makes a call, by what gRPC says of its other end."""
        self._registry = registry
        self._reloads = reloads
        self._who = who
        self._journal = journal
        self._under_way: set[asyncio.Future[Any]] = set()

    async def Rotate(self, request: pb.RotateRequest, context: _RotateContext) -> pb.RotateResponse:
        try:
            async with self._recorded("rotate", context.peer(), identity=_named(request)):
                generation = await self._registry.named(request.identity).renew()
        except MeshkeyError as error:
            await context.abort(grpc_status_of(error), str(error))
        return pb.RotateResponse(generation=generation)

    async def Revoke(self, request: pb.RevokeRequest, context: _RevokeContext) -> pb.EndResponse:
        key_id = KeyId(request.key_id)
        try:
            async with self._recorded("revoke", context.peer(), key_id=str(key_id)[:_LONGEST]):
                identity = self._registry.owner(key_id)
                ended = await self._to_its_end(identity.revoke(key_id))
        except MeshkeyError as error:
            await context.abort(grpc_status_of(error), str(error))
        return end_response(identity.name, ended)

    async def Deprovision(
        self, request: pb.DeprovisionRequest, context: _DeprovisionContext
    ) -> pb.EndResponse:
        try:
            async with self._recorded("deprovision", context.peer(), identity=_named(request)):
                identity = self._registry.named(request.identity)
                ended = await self._to_its_end(identity.deprovision())
        except MeshkeyError as error:
            await context.abort(grpc_status_of(error), str(error))
        return end_response(identity.name, ended)

    async def Reinstate(
        self, request: pb.ReinstateRequest, context: _ReinstateContext
    ) -> pb.ReinstateResponse:
        try:
            async with self._recorded("reinstate", context.peer(), identity=_named(request)):
                await self._to_its_end(self._registry.named(request.identity).reinstate())
        except MeshkeyError as error:
            await context.abort(grpc_status_of(error), str(error))
        return pb.ReinstateResponse()

    async def Reload(
        self, _request: pb.ReloadRequest, context: _ReloadContext
    ) -> pb.ReloadResponse:
        try:
            async with self._recorded("reload", context.peer()):
                reloaded = await self._to_its_end(self._reloads.reload())
        except MeshkeyError as error:
            await context.abort(grpc_status_of(error), str(error))
        return pb.ReloadResponse(changed=reloaded.changed, configuration_sha256=reloaded.digest)

    @asynccontextmanager
    async def _recorded(self, command: str, peer: str, **facts: Fact) -> AsyncIterator[None]:
        """Records who has given a command, while it is carried out: it waits for nothing.

        Its answer does: whoever has that may end, and could not be looked at any more.
        """
        recording = self._begin(self._record(command, peer, facts))
        try:
            yield
        finally:
            await asyncio.shield(recording)

    async def _record(self, command: str, peer: str, facts: Mapping[str, Fact]) -> None:
        process = await self._who(peer)
        caller: dict[str, Fact] = {
            "uid": process.uid,
            "pid": process.pid,
            "executable_sha256": process.executable,
        }
        self._journal.record("command", caller=caller, command=command, **facts)

    async def _to_its_end(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Goes on with it when whoever asked for it has gone: half an end is none."""
        return await asyncio.shield(self._begin(work))

    def _begin(self, work: Coroutine[Any, Any, _T]) -> asyncio.Future[_T]:
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task
