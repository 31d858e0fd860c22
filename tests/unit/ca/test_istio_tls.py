"""The connection to Istio's certificate service: whom it trusts, and when it is a new one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest

from sidecar.ca.istio import IstioAuthority
from sidecar.core.csr import build_csr
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import AuthorityError, AuthorityUnavailable
from tests.fakes.istio_ca import ClientFiles, IstioCa
from tests.fakes.istio_pki import ServingPki
from tests.fixtures import certificates
from tests.fixtures.mesh import spiffe_id
from tests.fixtures.pauses import Pauses
from tests.fixtures.waiting import soon
from tests.unit.ca.conftest import NewClient

CSR = build_csr(SpiffeId.parse(spiffe_id()), certificates.new_key())
HOUR = timedelta(hours=1)


async def test_the_certificate_must_name_the_host(new_client: NewClient, ca: IstioCa) -> None:
    assert await new_client(address=f"localhost:{ca.port}", server_name=None).sign(CSR, HOUR)
    with pytest.raises(AuthorityUnavailable, match="must name the host"):
        await new_client(server_name=None).sign(CSR, HOUR)
    assert len(ca.calls) == 1


async def test_the_certificate_must_have_the_name_that_is_set(
    new_client: NewClient, ca: IstioCa
) -> None:
    with pytest.raises(AuthorityUnavailable, match="must name the host or the configured server"):
        await new_client(server_name="istiod.other.svc").sign(CSR, HOUR)
    assert ca.calls == []


async def test_the_certificate_must_lead_to_the_root_file(
    client: IstioAuthority, ca: IstioCa, files: ClientFiles
) -> None:
    files.root.write_bytes(ServingPki().root.pem)
    with pytest.raises(AuthorityUnavailable, match="the root file must hold the root"):
        await client.sign(CSR, HOUR)
    assert ca.calls == []


async def test_the_roots_of_workloads_are_not_enough(
    client: IstioAuthority, ca: IstioCa, files: ClientFiles
) -> None:
    files.root.write_bytes(ca.rules.pki.root.pem)
    with pytest.raises(AuthorityUnavailable, match="handshake"):
        await client.sign(CSR, HOUR)
    assert ca.calls == []


async def test_nothing_is_sent_without_tls(client: IstioAuthority, ca: IstioCa) -> None:
    await ca.restart(plaintext=True)
    with pytest.raises(AuthorityUnavailable, match="handshake"):
        await client.sign(CSR, HOUR)
    assert ca.calls == []


async def test_nobody_there_is_a_reason_to_ask_again(client: IstioAuthority, ca: IstioCa) -> None:
    await ca.stop()
    with pytest.raises(AuthorityUnavailable, match="refused"):
        await client.sign(CSR, HOUR)
    await ca.start()
    assert await client.sign(CSR, HOUR)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "cannot be read: No such file", id="missing"),
        pytest.param(b"", "no readable PEM", id="empty"),
        pytest.param(b"garbage", "no readable PEM", id="garbage"),
    ],
)
async def test_a_root_file_that_is_not_there_yet_is_a_reason_to_ask_again(
    client: IstioAuthority, ca: IstioCa, files: ClientFiles, content: bytes | None, reason: str
) -> None:
    assert await client.sign(CSR, HOUR)
    files.root.unlink()
    if content is not None:
        files.root.write_bytes(content)
    with pytest.raises(AuthorityUnavailable, match=f"root file {files.root} .*{reason}"):
        await client.sign(CSR, HOUR)
    assert len(ca.calls) == 1
    files.write(ca)
    assert await client.sign(CSR, HOUR)


async def test_a_connection_is_kept_while_all_is_well(client: IstioAuthority, ca: IstioCa) -> None:
    await client.sign(CSR, HOUR)
    ca.failures = [(grpc.StatusCode.UNAVAILABLE, "busy"), (grpc.StatusCode.NOT_FOUND, "no")]
    with pytest.raises(AuthorityError, match="NOT_FOUND"):
        await client.sign(CSR, HOUR)
    await client.sign(CSR, HOUR)
    assert len(ca.calls) == 4
    assert len(_connections(ca)) == 1


async def test_after_repeated_failure_there_is_another_connection(
    client: IstioAuthority, ca: IstioCa
) -> None:
    ca.failures = [(grpc.StatusCode.UNAVAILABLE, "busy")] * 6
    with pytest.raises(AuthorityUnavailable):
        await client.sign(CSR, HOUR)
    assert len(_connections(ca)) == 1
    assert await client.sign(CSR, HOUR)
    assert len(_connections(ca)) == 2


async def test_a_new_connection_is_no_share_in_an_old_one_that_is_in_use(
    client: IstioAuthority, ca: IstioCa
) -> None:
    ca.open.clear()
    first = asyncio.create_task(_sign(client))
    await soon(lambda: ca.calls, "the first call")
    ca.failures = [(grpc.StatusCode.UNAVAILABLE, "busy")] * 6
    with pytest.raises(AuthorityUnavailable):
        await client.sign(CSR, HOUR)
    assert len(_connections(ca)) == 1
    last = asyncio.create_task(_sign(client))
    await soon(lambda: len(ca.calls) == 8, "the last call")
    assert len(_connections(ca)) == 2
    ca.open.set()
    assert await first
    assert await last


async def test_another_root_file_is_another_connection(
    client: IstioAuthority, ca: IstioCa, files: ClientFiles
) -> None:
    await client.sign(CSR, HOUR)
    ca.serving = ServingPki()
    files.write(ca)
    # The server still has its old certificate: an old connection would still do.
    with pytest.raises(AuthorityUnavailable, match="handshake"):
        await client.sign(CSR, HOUR)
    assert len(ca.calls) == 1


async def test_a_ca_that_comes_back_with_another_root_is_reached_by_the_new_file(
    client: IstioAuthority, ca: IstioCa, files: ClientFiles
) -> None:
    await client.sign(CSR, HOUR)
    ca.serving = ServingPki()
    await ca.restart()
    with pytest.raises(AuthorityUnavailable, match="handshake"):
        await client.sign(CSR, HOUR)
    files.write(ca)
    assert await client.sign(CSR, HOUR)


async def test_a_connection_that_drops_during_a_call_is_made_again(
    new_client: NewClient, ca: IstioCa, pauses: Pauses
) -> None:
    async def the_ca_comes_back(_seconds: float) -> None:
        await stopped
        ca.open.set()
        await ca.restart()

    ca.open.clear()
    client = new_client(pacing=replace(pauses.pacing, sleep=the_ca_comes_back))
    call = asyncio.create_task(_sign(client))
    await soon(lambda: ca.calls, "the call")
    stopped = asyncio.create_task(ca.stop())
    assert await call
    assert len(ca.calls) == len(_connections(ca)) == 2


async def test_a_call_is_answered_on_the_connection_that_another_one_replaced(
    client: IstioAuthority, ca: IstioCa, files: ClientFiles
) -> None:
    ca.open.clear()
    first = asyncio.create_task(_sign(client))
    await soon(lambda: len(ca.calls) == 1, "the first call")
    files.root.write_bytes(ca.serving.root.pem + ServingPki().root.pem)
    second = asyncio.create_task(_sign(client))
    await soon(lambda: len(ca.calls) == 2, "the second call")
    ca.open.set()
    assert await first
    assert await second
    assert len(_connections(ca)) == 2
    assert len(ca.calls) == 2


async def test_a_call_that_is_under_way_is_answered_when_the_client_closes(
    client: IstioAuthority, ca: IstioCa
) -> None:
    ca.open.clear()
    call = asyncio.create_task(_sign(client))
    await soon(lambda: ca.calls, "the call")
    await client.close()
    ca.open.set()
    assert await call
    assert len(ca.calls) == 1


async def test_no_proxy_of_the_environment_is_between(
    new_client: NewClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert await new_client().sign(CSR, HOUR)


async def test_an_address_is_a_host_and_port_and_nothing_else(new_client: NewClient) -> None:
    with pytest.raises(AuthorityUnavailable, match="errors resolving unix:/tmp/x"):
        await new_client(address="unix:/tmp/x").sign(CSR, HOUR)


async def _sign(client: IstioAuthority) -> list[bytes]:
    return list(await client.sign(CSR, HOUR))


def _connections(ca: IstioCa) -> set[str]:
    return {call.connection for call in ca.calls}
