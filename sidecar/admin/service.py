"""The gRPC services of proto/meshkey/admin/v1."""

from __future__ import annotations

import grpc.aio

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar._proto.meshkey.admin.v1 import admin_pb2_grpc
from sidecar.admin.health import problems_of
from sidecar.admin.observed import Observed
from sidecar.admin.status import status_of
from sidecar.errors import MeshkeyError
from sidecar.identity.registry import IdentityRegistry
from sidecar.rpc.status import status_of as grpc_status_of

_StatusContext = grpc.aio.ServicerContext[pb.StatusRequest, pb.StatusResponse]
_HealthContext = grpc.aio.ServicerContext[pb.HealthRequest, pb.HealthResponse]
_RotateContext = grpc.aio.ServicerContext[pb.RotateRequest, pb.RotateResponse]


class ObserverService(admin_pb2_grpc.ObserverServicer):
    """Status and Health: reads only."""

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


class AdminService(admin_pb2_grpc.AdminServicer):
    """Rotate."""

    def __init__(self, registry: IdentityRegistry) -> None:
        self._registry = registry

    async def Rotate(self, request: pb.RotateRequest, context: _RotateContext) -> pb.RotateResponse:
        try:
            generation = await self._registry.named(request.identity).renew()
        except MeshkeyError as error:
            await context.abort(grpc_status_of(error), str(error))
        return pb.RotateResponse(generation=generation)
