"""Istio's certificate service over real TLS, as strict as the CA whose rules it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio

from sidecar._proto.third_party import istio_ca_pb2
from tests.fakes.istio_pki import ServingPki, now
from tests.fakes.istio_rules import Asked, Refused, Rules, unauthenticated
from tests.fakes.service_account_tokens import AUDIENCE, TokenIssuer, TokenRefused

SERVER_NAME = "istiod.istio-system.svc"
CLUSTER_ID = "Kubernetes"

_Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True)
class Call:
    """What reached the server, judged or not."""

    connection: str
    metadata: Sequence[tuple[str, str | bytes]]
    request: istio_ca_pb2.CertificateRequest

    def values(self, key: str) -> list[str | bytes]:
        return [value for name, value in self.metadata if name == key]


class IstioCa:
    """Answers by its `rules`; the attributes make it fail."""

    def __init__(self, rules: Rules, trust_domain: str) -> None:
        self.rules = rules
        self.trust_domain = trust_domain
        self.serving = ServingPki()
        self.tokens = TokenIssuer()
        self.calls: list[Call] = []
        # Why requests were refused, as the CA's log has it.
        self.reasons: list[str] = []
        # Codes and details, one a call, before anything is looked at.
        self.failures: list[tuple[grpc.StatusCode, str]] = []
        # Clear it and answers wait until it is set.
        self.open = asyncio.Event()
        self.open.set()
        # Replaces a request that was found good, an answer, or the bytes of an answer.
        self.mishear: Callable[[Asked], Asked] = _same
        self.tamper: Callable[[list[str]], list[str]] = list
        self.garble: Callable[[bytes], bytes] = bytes
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self, *, plaintext: bool = False) -> None:
        """On the port of last time, if there was one."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
            self._create_certificate
        )
        service = "istio.v1.auth.IstioCertificateService"
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"CreateCertificate": handler}),)
        )
        address = f"127.0.0.1:{self.port}"
        if plaintext:
            self.port = server.add_insecure_port(address)
        else:
            pair = self.serving.certificate(SERVER_NAME, "localhost")
            self.port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Connections and calls end at once."""
        if self._server:
            await self._server.stop(None)
        self._server = None

    async def restart(self, *, plaintext: bool = False) -> None:
        """Connections and calls end; the serving certificate is a new one of `serving`."""
        await self.stop()
        await self.start(plaintext=plaintext)

    async def _create_certificate(self, raw: bytes, context: _Context) -> bytes:
        request = istio_ca_pb2.CertificateRequest.FromString(raw)
        call = Call(context.peer(), list(context.invocation_metadata() or ()), request)
        self.calls.append(call)
        if self.failures:
            await context.abort(*self.failures.pop(0))
        await self.open.wait()
        try:
            asked = self._asked(call)
            chain = self.rules.chain(self.mishear(asked))
        except Refused as refused:
            self.reasons.append(refused.reason)
            await context.abort(refused.code, refused.told)
        answer = istio_ca_pb2.CertificateResponse(cert_chain=self.tamper(chain))
        return self.garble(answer.SerializeToString())

    def _asked(self, call: Call) -> Asked:
        caller = self._caller(call)
        # Looking up a missing field would add it.
        wishes = dict(call.request.metadata)
        if wishes.get("ImpersonatedIdentity"):
            raise unauthenticated("nobody may act for others here")
        signer = str(wishes.get("CertSigner", ""))
        lifetime = timedelta(seconds=call.request.validity_duration)
        return Asked(caller, call.request.csr, lifetime, signer)

    def _caller(self, call: Call) -> str:
        """The SPIFFE ID of the service account, of which the caller has a token."""
        bearer = [str(v) for v in call.values("authorization") if str(v).startswith("Bearer ")]
        if not bearer:
            raise unauthenticated("no bearer token")
        # Several are as good as none, and none means the CA's own cluster.
        clusters = call.values("clusterid")
        if len(clusters) == 1 and clusters[0] not in {CLUSTER_ID, ""}:
            raise unauthenticated("an unknown cluster")
        try:
            token = bearer[0].removeprefix("Bearer ")
            namespace, name = self.tokens.reviewed(token, AUDIENCE, now())
        except TokenRefused as error:
            raise unauthenticated(str(error)) from error
        return f"spiffe://{self.trust_domain}/ns/{namespace}/sa/{name}"


@dataclass
class ClientFiles:
    """What a pod has of the CA: its root and a projected token."""

    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / "root-cert.pem"

    @property
    def token(self) -> Path:
        return self.directory / "istio-token"

    def write(self, ca: IstioCa) -> None:
        self.root.write_bytes(ca.serving.root.pem)
        self.token.write_text(ca.tokens.token(now()) + "\n", encoding="ascii")


@asynccontextmanager
async def running(rules: Rules, trust_domain: str) -> AsyncIterator[IstioCa]:
    ca = IstioCa(rules, trust_domain)
    await ca.start()
    try:
        yield ca
    finally:
        await ca.stop()


def _same(asked: Asked) -> Asked:
    return asked
