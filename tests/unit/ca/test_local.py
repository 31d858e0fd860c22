"""The local CA's client: statuses become errors, and an answer is passed on as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc.aio
import pytest

from sidecar._proto.meshkey.ca.v1 import ca_pb2, ca_pb2_grpc
from sidecar.ca.local import LocalAuthority
from sidecar.errors import AuthorityError, AuthorityUnavailable
from sidecar.rpc.sockets import bind, unix_channel, unix_server

_RETRYABLE = ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"]
_FINAL = ["INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED", "INTERNAL", "UNKNOWN"]


class _Issuer(ca_pb2_grpc.CertificateAuthorityServicer):
    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None
        self.requests: list[ca_pb2.IssueRequest] = []

    async def Issue(  # noqa: N802  # gRPC names it
        self,
        request: ca_pb2.IssueRequest,
        context: grpc.aio.ServicerContext[ca_pb2.IssueRequest, ca_pb2.IssueResponse],
    ) -> ca_pb2.IssueResponse:
        self.requests.append(request)
        if self.code:
            await context.abort(self.code, "what was wrong")
        return ca_pb2.IssueResponse(certificate_chain=[b"leaf", b"root"])


@pytest.fixture
def issuer() -> _Issuer:
    return _Issuer()


@pytest.fixture
async def authority(issuer: _Issuer, short_dir: Path) -> AsyncIterator[LocalAuthority]:
    server = unix_server()
    ca_pb2_grpc.add_CertificateAuthorityServicer_to_server(issuer, server)
    bind(server, short_dir / "ca", 0o600)
    await server.start()
    async with unix_channel(short_dir / "ca") as channel:
        yield LocalAuthority(channel)
    await server.stop(None)


async def test_the_answer_is_passed_on(authority: LocalAuthority, issuer: _Issuer) -> None:
    assert await authority.sign(b"csr", timedelta(minutes=20)) == [b"leaf", b"root"]
    assert issuer.requests == [ca_pb2.IssueRequest(csr=b"csr", lifetime=1200)]


@pytest.mark.parametrize("code", _RETRYABLE)
async def test_some_statuses_say_ask_again(
    authority: LocalAuthority, issuer: _Issuer, code: str
) -> None:
    issuer.code = grpc.StatusCode[code]
    with pytest.raises(AuthorityUnavailable, match=f"local CA: {code}: what was wrong"):
        await authority.sign(b"csr", timedelta(minutes=20))


async def test_an_answer_that_is_no_message_is_a_refusal(short_dir: Path) -> None:
    async def garbled(_request: bytes, _context: object) -> bytes:
        return b"\xff\xff"

    server = unix_server()
    handler = grpc.method_handlers_generic_handler(
        "meshkey.ca.v1.CertificateAuthority",
        {"Issue": grpc.unary_unary_rpc_method_handler(garbled)},
    )
    server.add_generic_rpc_handlers((handler,))
    bind(server, short_dir / "ca", 0o600)
    await server.start()
    async with unix_channel(short_dir / "ca") as channel:
        with pytest.raises(AuthorityError, match="cannot be decoded"):
            await LocalAuthority(channel).sign(b"csr", timedelta(minutes=20))
    await server.stop(None)


@pytest.mark.parametrize("code", _FINAL)
async def test_all_others_are_refusals(
    authority: LocalAuthority, issuer: _Issuer, code: str
) -> None:
    issuer.code = grpc.StatusCode[code]
    with pytest.raises(AuthorityError, match=code) as refused:
        await authority.sign(b"csr", timedelta(minutes=20))
    assert not isinstance(refused.value, AuthorityUnavailable)
