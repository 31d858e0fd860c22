"""The gRPC service of proto/meshkey/signer/v1: its method table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import grpc.aio

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.callers.base import Admitted, Callers
from sidecar.callers.serving import AdmittedCalls, while_permitted
from sidecar.errors import SigningRefused
from sidecar.identity.registry import IdentityRegistry
from sidecar.rpc.quiet import Quiet
from sidecar.signer.requests import decoder
from sidecar.signer.signatures import Signatures
from sidecar.signer.stream import SignStream
from sidecar.signer.watch import follow

_SERVICE = "meshkey.signer.v1.Signer"
_SignContext = grpc.aio.ServicerContext[pb.SignRequest | SigningRefused, pb.SignResponse]
_StreamContext = grpc.aio.ServicerContext[pb.SignRequests | SigningRefused, pb.SignResponses]
_WatchContext = grpc.aio.ServicerContext[pb.WatchRequest, pb.IdentityUpdate]


class SignerService:
    """WatchIdentity, SignStream and Sign, for callers that are let in."""

    def __init__(
        self, registry: IdentityRegistry, signatures: Signatures, callers: Callers
    ) -> None:
        self._registry = registry
        self._signatures = signatures
        self._calls = AdmittedCalls(callers, signatures.counts.callers)
        self._quiet = Quiet(time.monotonic)

    def handler(self) -> grpc.GenericRpcHandler:
        """Requests are decoded by us, so that a malformed one is refused by itself."""
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                "WatchIdentity": grpc.stream_stream_rpc_method_handler(
                    self._watch_identity,
                    pb.WatchRequest.FromString,
                    pb.IdentityUpdate.SerializeToString,
                ),
                "SignStream": grpc.stream_stream_rpc_method_handler(
                    self._sign_stream,
                    decoder(pb.SignRequests),
                    pb.SignResponses.SerializeToString,
                ),
                "Sign": grpc.unary_unary_rpc_method_handler(
                    self._sign, decoder(pb.SignRequest), pb.SignResponse.SerializeToString
                ),
            },
        )

    async def _watch_identity(
        self, requests: AsyncIterator[pb.WatchRequest], context: _WatchContext
    ) -> None:
        async def watch(admitted: Admitted) -> None:
            first = await anext(requests, None)
            if first is None:
                return
            identity = self._registry.permitted(first.identity, admitted.permissions)
            following = follow(identity, requests, context.write, self._quiet)
            if not await while_permitted(admitted, identity.name, following):
                # Which says of it what it says of an identity that there is not.
                self._registry.permitted(first.identity, admitted.permissions)

        await self._calls.serve(context, watch)

    async def _sign_stream(
        self, requests: AsyncIterator[pb.SignRequests | SigningRefused], context: _StreamContext
    ) -> None:
        async def sign(admitted: Admitted) -> None:
            with self._signatures.quota.caller(admitted.process) as caller:
                stream = SignStream(self._signatures, admitted, caller)
                await stream.run(requests, context.write)

        await self._calls.serve(context, sign)

    async def _sign(
        self, request: pb.SignRequest | SigningRefused, context: _SignContext
    ) -> pb.SignResponse:
        async def sign(admitted: Admitted) -> pb.SignResponse:
            return await self._signed(request, admitted, context.time_remaining())

        return await self._calls.serve(context, sign)

    async def _signed(
        self, request: pb.SignRequest | SigningRefused, admitted: Admitted, patience: float | None
    ) -> pb.SignResponse:
        answered: asyncio.Future[pb.SignResponse] = asyncio.get_running_loop().create_future()
        with self._signatures.quota.caller(admitted.process) as caller:
            self._signatures.begin(
                request,
                lambda answer: None if answered.done() else answered.set_result(answer),
                caller,
                admitted.permissions,
                patience,
            )
            return await answered
