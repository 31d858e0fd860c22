"""The gRPC service of proto/meshkey/signer/v1: its method table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.core.process import UNKNOWN
from sidecar.errors import SigningRefused, UnknownIdentity
from sidecar.identity.registry import IdentityRegistry
from sidecar.signer.requests import decoder
from sidecar.signer.signatures import Signatures
from sidecar.signer.stream import SignStream
from sidecar.signer.watch import follow

_SERVICE = "meshkey.signer.v1.Signer"
_SignContext = grpc.aio.ServicerContext[pb.SignRequest | SigningRefused, pb.SignResponse]
_StreamContext = grpc.aio.ServicerContext[pb.SignRequests | SigningRefused, pb.SignResponses]
_WatchContext = grpc.aio.ServicerContext[pb.WatchRequest, pb.IdentityUpdate]


class SignerService:
    """WatchIdentity, SignStream and Sign."""

    def __init__(self, registry: IdentityRegistry, signatures: Signatures) -> None:
        self._registry = registry
        self._signatures = signatures

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
        first = await anext(requests, None)
        if first is None:
            return
        try:
            identity = self._registry.named(first.identity)
        except UnknownIdentity as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        await follow(identity, requests, context.write)

    async def _sign_stream(
        self, requests: AsyncIterator[pb.SignRequests | SigningRefused], context: _StreamContext
    ) -> None:
        # Not with the first answer: a client may wait for the call to be accepted.
        await context.send_initial_metadata(())
        with self._signatures.quota.caller(UNKNOWN) as caller:
            await SignStream(self._signatures, caller).run(requests, context.write)

    async def _sign(
        self, request: pb.SignRequest | SigningRefused, context: _SignContext
    ) -> pb.SignResponse:
        answered: asyncio.Future[pb.SignResponse] = asyncio.get_running_loop().create_future()
        with self._signatures.quota.caller(UNKNOWN) as caller:
            self._signatures.begin(
                request,
                lambda answer: None if answered.done() else answered.set_result(answer),
                caller,
                context.time_remaining(),
            )
            return await answered
