"""The gRPC service envoy.service.secret.v3.SecretDiscoveryService: its method table."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from sidecar._proto.third_party import envoy_sds_pb2 as pb
from sidecar.callers.base import Admitted, Callers
from sidecar.callers.serving import AdmittedCalls
from sidecar.errors import DiscoveryBusy, DiscoveryRefused, MeshkeyError
from sidecar.identity.registry import IdentityRegistry
from sidecar.sds import resources
from sidecar.sds.delta import DeltaExchange
from sidecar.sds.followed import Followed, checked
from sidecar.sds.names import RootValidator
from sidecar.sds.requests import decoder, require_secrets
from sidecar.sds.root_files import RootFiles
from sidecar.sds.secret_source import SecretSource
from sidecar.sds.sotw import SotwExchange
from sidecar.sds.stream import SecretStream
from sidecar.sds.verdicts import Verdicts
from sidecar.sds.watched import RefusedCertificates
from sidecar.telemetry import SdsCounts

_SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
# How often files of roots are looked at.
_FILE_INTERVAL = timedelta(seconds=5)
# Envoy has a stream for each secret. Whoever opens more than these must not take the memory of
# the process that signs.
_MAX_STREAMS = 1024

_FetchContext = grpc.aio.ServicerContext[
    pb.DiscoveryRequest | DiscoveryRefused, pb.DiscoveryResponse
]


class SdsService:
    """StreamSecrets, DeltaSecrets and FetchSecrets, for callers that are let in.

    What a caller may not follow is for him as if it were not there. The files are for all.
    """

    def __init__(
        self,
        registry: IdentityRegistry,
        counts: SdsCounts,
        file_roots: frozenset[Path],
        root_validator: RootValidator,
        callers: Callers,
        file_interval: timedelta = _FILE_INTERVAL,
        refused_certificates: RefusedCertificates = RefusedCertificates.ALARM,
    ) -> None:
        self._registry = registry
        self._files = RootFiles(file_roots, file_interval)
        self._root_validator = root_validator
        self._refused_certificates = refused_certificates
        self._counts = counts
        self._calls = AdmittedCalls(callers, counts.callers)
        self._verdicts = Verdicts(counts)

    def handler(self) -> grpc.GenericRpcHandler:
        """Requests are decoded by us, so that a malformed one ends its own call only."""
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                "StreamSecrets": grpc.stream_stream_rpc_method_handler(
                    self._stream_secrets,
                    decoder(pb.DiscoveryRequest),
                    pb.DiscoveryResponse.SerializeToString,
                ),
                "DeltaSecrets": grpc.stream_stream_rpc_method_handler(
                    self._delta_secrets,
                    decoder(pb.DeltaDiscoveryRequest),
                    pb.DeltaDiscoveryResponse.SerializeToString,
                ),
                "FetchSecrets": grpc.unary_unary_rpc_method_handler(
                    self._fetch_secrets,
                    decoder(pb.DiscoveryRequest),
                    pb.DiscoveryResponse.SerializeToString,
                ),
            },
        )

    async def _stream_secrets(
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        async def stream(admitted: Admitted) -> None:
            followed = Followed(self._source(admitted))
            exchange = SotwExchange(followed, self._verdicts, _nonces())
            await self._run(SecretStream(exchange, followed), requests, context)

        await self._calls.serve(context, stream)

    async def _delta_secrets(
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        async def stream(admitted: Admitted) -> None:
            followed = Followed(self._source(admitted))
            exchange = DeltaExchange(followed, self._verdicts, _nonces())
            await self._run(SecretStream(exchange, followed), requests, context)

        await self._calls.serve(context, stream)

    async def _run(
        self,
        stream: SecretStream[Any, Any],
        requests: AsyncIterator[Any],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        self._counts.streams += 1
        try:
            if self._counts.streams > _MAX_STREAMS:
                raise DiscoveryBusy(f"{_MAX_STREAMS} streams are open already; try again later")
            await stream.run(requests, context.write)
        except MeshkeyError as error:
            self._verdicts.refuse(error)
            raise
        finally:
            self._counts.streams -= 1

    async def _fetch_secrets(
        self, request: pb.DiscoveryRequest | DiscoveryRefused, context: _FetchContext
    ) -> pb.DiscoveryResponse:
        return await self._calls.serve(
            context, lambda admitted: self._fetched(request, self._source(admitted))
        )

    def _source(self, admitted: Admitted) -> SecretSource:
        return SecretSource(
            self._registry,
            self._files,
            self._root_validator,
            self._counts,
            admitted,
            self._refused_certificates,
        )

    async def _fetched(
        self, request: pb.DiscoveryRequest | DiscoveryRefused, source: SecretSource
    ) -> pb.DiscoveryResponse:
        if isinstance(request, DiscoveryRefused):
            raise request
        require_secrets(request.type_url)
        names = checked(request.resource_names)
        if not names:
            raise DiscoveryRefused("no secret is asked for; name it in resource_names")
        found = [await source.now(name) for name in names]
        return pb.DiscoveryResponse(
            version_info=resources.version(found),
            resources=[resources.as_any(secret) for secret in found],
            type_url=resources.SECRET,
        )


def _nonces() -> Iterator[str]:
    """For one stream; no other stream has the same, nor has one before a restart."""
    stream = secrets.token_hex(8)
    return (f"{stream}-{number}" for number in count(1))
