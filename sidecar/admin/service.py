"""The gRPC service of proto/meshkey/admin/v1."""

from __future__ import annotations

import grpc.aio

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar._proto.meshkey.admin.v1 import admin_pb2_grpc
from sidecar.errors import MeshkeyError
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.rpc.status import status_of
from sidecar.telemetry import SigningCounts
from sidecar.token.base import Token
from sidecar.token.executor import TokenExecutor

_StatusContext = grpc.aio.ServicerContext[pb.StatusRequest, pb.StatusResponse]
_RotateContext = grpc.aio.ServicerContext[pb.RotateRequest, pb.RotateResponse]


class AdminService(admin_pb2_grpc.AdminServicer):
    """Status and Rotate."""

    def __init__(
        self,
        registry: IdentityRegistry,
        counts: SigningCounts,
        token: Token,
        executor: TokenExecutor,
    ) -> None:
        self._registry = registry
        self._counts = counts
        self._token = token
        self._executor = executor

    async def Status(
        self, _request: pb.StatusRequest, context: _StatusContext
    ) -> pb.StatusResponse:
        return pb.StatusResponse(
            token=pb.TokenStatus(
                label=self._token.label,
                assurance=self._token.assurance.value,
                signatures=self._token.signatures,
                hung=self._executor.hung,
            ),
            identities=[_identity_status(identity) for identity in self._registry],
            signed=self._counts.signed,
            refused=self._counts.refused,
            told_to_retry=self._counts.told_to_retry,
        )

    async def Rotate(self, request: pb.RotateRequest, context: _RotateContext) -> pb.RotateResponse:
        try:
            generation = await self._registry.named(request.identity).renew()
        except MeshkeyError as error:
            await context.abort(status_of(error), str(error))
        return pb.RotateResponse(generation=generation)


def _identity_status(identity: Identity) -> pb.IdentityStatus:
    status = pb.IdentityStatus(
        name=identity.name,
        spiffe_id=str(identity.spiffe_id),
        last_error=identity.last_error,
        subscribers=[
            pb.SubscriberStatus(
                acked_generation=s.acked_generation,
                error=s.error,
                kind=s.kind,
                resource=s.resource,
            )
            for s in identity.store.subscriptions
        ],
    )
    if (snapshot := identity.store.current) and (due := identity.next_renewal):
        status.key_id = snapshot.key_id.value
        status.key_origin = snapshot.key_origin.value
        status.generation = snapshot.generation
        status.serial = snapshot.chain.serial
        status.not_before = int(snapshot.chain.not_before.timestamp())
        status.not_after = int(snapshot.chain.not_after.timestamp())
        status.next_renewal = int(due.timestamp())
    return status
