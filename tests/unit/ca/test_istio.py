"""The client of Istio's certificate service: what it sends, and what it makes of what comes."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from sidecar.ca.istio import IstioAuthority
from sidecar.core.chain import verified_chain
from sidecar.core.csr import build_csr
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import AuthorityError, AuthorityUnavailable, CertificateRefused, Retryable
from tests.fakes.istio_ca import CLUSTER_ID, ClientFiles, IstioCa
from tests.fakes.istio_pki import now, pem
from tests.fakes.istio_rules import Asked
from tests.fixtures import certificates
from tests.fixtures.mesh import spiffe_id
from tests.fixtures.pauses import Pauses
from tests.fixtures.waiting import soon
from tests.unit.ca.conftest import NewClient

ID = SpiffeId.parse(spiffe_id())
KEY = certificates.new_key()
CSR = build_csr(ID, KEY)
HOUR = timedelta(hours=1)

# Istio's agent asks again after these, and after no others.
RETRYABLE = [
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "INTERNAL",
    "UNAVAILABLE",
]
FINAL = [
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]


async def test_the_request_is_the_csr_in_pem_and_seconds(
    client: IstioAuthority, ca: IstioCa
) -> None:
    await client.sign(CSR, timedelta(minutes=20, milliseconds=900))
    (call,) = ca.calls
    parsed = x509.load_pem_x509_csr(call.request.csr.encode())
    assert parsed.public_bytes(Encoding.DER) == CSR
    assert call.request.csr == parsed.public_bytes(Encoding.PEM).decode()
    assert call.request.validity_duration == 1200
    assert not call.request.HasField("metadata")


async def test_less_than_a_second_does_not_ask_for_the_default(
    client: IstioAuthority, ca: IstioCa
) -> None:
    await client.sign(CSR, timedelta(milliseconds=10))
    assert ca.calls[0].request.validity_duration == 1


async def test_the_metadata_are_those_of_istios_agent(
    new_client: NewClient, ca: IstioCa, files: ClientFiles
) -> None:
    client = new_client(headers={"FOO": "bar=baz", "x-mesh": "a b"}, cert_signer="mesh")
    await client.sign(CSR, HOUR)
    (call,) = ca.calls
    assert call.values("authorization") == [f"Bearer {files.token.read_text().strip()}"]
    assert call.values("clusterid") == [CLUSTER_ID]
    assert call.values("foo") == ["bar=baz"]
    assert call.values("x-mesh") == ["a b"]
    assert dict(call.request.metadata) == {"CertSigner": "mesh"}


async def test_the_answer_is_der_in_its_order(client: IstioAuthority, ca: IstioCa) -> None:
    leaf, *others = await client.sign(CSR, HOUR)
    root, intermediate = ca.rules.pki.root.der, ca.rules.pki.intermediate.der
    assert others == [intermediate, root, root]
    assert x509.load_der_x509_certificate(leaf).public_key() == KEY.public_key()


async def test_the_token_is_read_anew_for_each_attempt(
    client: IstioAuthority, ca: IstioCa, files: ClientFiles
) -> None:
    expired = ca.tokens.token(now() - timedelta(days=1))
    files.token.write_text(expired)
    with pytest.raises(AuthorityError, match="UNAUTHENTICATED"):
        await client.sign(CSR, HOUR)
    files.write(ca)
    assert await client.sign(CSR, HOUR)


async def test_a_token_that_is_replaced_between_attempts_is_used(
    new_client: NewClient, ca: IstioCa, files: ClientFiles, pauses: Pauses
) -> None:
    fresh = files.token.read_text()
    files.token.write_text(ca.tokens.token(now() - timedelta(days=1)))
    ca.failures = [(grpc.StatusCode.UNAVAILABLE, "")]

    async def the_kubelet_writes(_seconds: float) -> None:
        files.token.write_text(fresh)

    client = new_client(pacing=replace(pauses.pacing, sleep=the_kubelet_writes))
    assert await client.sign(CSR, HOUR)


@pytest.mark.parametrize("code", RETRYABLE)
async def test_it_asks_again_after_what_may_pass(
    client: IstioAuthority, ca: IstioCa, pauses: Pauses, code: str
) -> None:
    ca.failures = [(grpc.StatusCode[code], "later")] * 5
    assert await client.sign(CSR, HOUR)
    assert len(ca.calls) == 6
    assert pauses.slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])


@pytest.mark.parametrize("code", RETRYABLE)
async def test_it_gives_up_after_five_more_attempts(
    client: IstioAuthority, ca: IstioCa, code: str
) -> None:
    ca.failures = [(grpc.StatusCode[code], "later")] * 7
    with pytest.raises(AuthorityUnavailable, match=f"Istio CA .*: {code}: later"):
        await client.sign(CSR, HOUR)
    assert len(ca.calls) == 6


@pytest.mark.parametrize("code", FINAL)
async def test_a_refusal_is_not_asked_again(
    client: IstioAuthority, ca: IstioCa, pauses: Pauses, code: str
) -> None:
    ca.failures = [(grpc.StatusCode[code], "never")]
    with pytest.raises(AuthorityError, match=f"Istio CA .*: {code}: never") as refused:
        await client.sign(CSR, HOUR)
    assert not isinstance(refused.value, Retryable)
    assert len(ca.calls) == 1
    assert pauses.slept == []


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 10_000_000])
async def test_an_answer_that_is_too_large_is_a_refusal_at_once(
    client: IstioAuthority, ca: IstioCa, size: int
) -> None:
    ca.garble = lambda _answer: bytes(size)
    with pytest.raises(AuthorityError, match="larger than 1048576 bytes") as refused:
        await client.sign(CSR, HOUR)
    assert not isinstance(refused.value, Retryable)
    assert len(ca.calls) == 1


async def test_an_answer_that_is_no_message_is_a_refusal(
    client: IstioAuthority, ca: IstioCa
) -> None:
    ca.garble = lambda _answer: b"\xff\xff"
    with pytest.raises(AuthorityError, match="cannot be decoded") as refused:
        await client.sign(CSR, HOUR)
    assert not isinstance(refused.value, Retryable)
    assert len(ca.calls) == 1


async def test_an_answer_with_one_element_is_a_refusal(client: IstioAuthority, ca: IstioCa) -> None:
    ca.tamper = lambda chain: chain[:1]
    with pytest.raises(AuthorityError, match="has 1 elements") as refused:
        await client.sign(CSR, HOUR)
    assert not isinstance(refused.value, Retryable)


async def test_a_garbage_chain_is_a_refusal(client: IstioAuthority, ca: IstioCa) -> None:
    ca.tamper = lambda chain: ["garbage", *chain[1:]]
    with pytest.raises(AuthorityError, match="no PEM certificate") as refused:
        await client.sign(CSR, HOUR)
    assert not isinstance(refused.value, Retryable)


async def test_a_chain_for_another_key_is_passed_on_and_refused_by_the_check(
    client: IstioAuthority, ca: IstioCa
) -> None:
    other = _pem(build_csr(ID, certificates.new_key()))
    ca.mishear = lambda asked: replace(asked, csr=other)
    await _refused_by_the_check(client, ca, "another key")


async def test_a_chain_for_another_identity_is_passed_on_and_refused_by_the_check(
    client: IstioAuthority, ca: IstioCa
) -> None:
    def mishear(asked: Asked) -> Asked:
        return replace(asked, caller=spiffe_id("db"))

    ca.mishear = mishear
    await _refused_by_the_check(client, ca, "names .*db")


async def _refused_by_the_check(client: IstioAuthority, ca: IstioCa, reason: str) -> None:
    answer = await client.sign(CSR, HOUR)
    with pytest.raises(CertificateRefused, match=reason):
        verified_chain(
            answer,
            public_key=KEY.public_key(),
            spiffe_id=ID,
            roots=[ca.rules.pki.root.certificate],
            now=datetime.now(UTC),
        )


async def test_a_call_that_hangs_ends_with_the_deadline_and_its_answer_is_lost(
    client: IstioAuthority, ca: IstioCa, pauses: Pauses
) -> None:
    await client.sign(CSR, HOUR)
    ca.open.clear()
    # Of 60 seconds the attempt has the last half, and takes it.
    pauses.after_reading = [59.5, 0.5]
    with pytest.raises(AuthorityUnavailable, match="DEADLINE_EXCEEDED"):
        await client.sign(CSR, HOUR)
    assert pauses.slept == []
    ca.open.set()
    other = certificates.new_key()
    leaf, *_ = await client.sign(build_csr(ID, other), HOUR)
    assert x509.load_der_x509_certificate(leaf).public_key() == other.public_key()


async def test_no_attempt_begins_after_the_deadline(
    client: IstioAuthority, ca: IstioCa, pauses: Pauses
) -> None:
    ca.failures = [(grpc.StatusCode.UNAVAILABLE, "later")] * 7
    pauses.after_reading = [0, 0, 0, 59.75]  # before the second attempt, which 0.2 s follow
    with pytest.raises(AuthorityUnavailable, match="UNAVAILABLE: later"):
        await client.sign(CSR, HOUR)
    assert len(ca.calls) == 2


async def test_an_attempt_that_hangs_leaves_time_for_another_connection(
    new_client: NewClient, ca: IstioCa, pauses: Pauses
) -> None:
    ca.open.clear()
    pauses.after_reading = [59.5]  # of 60, so that the first attempt is short

    async def answers_again(_seconds: float) -> None:
        pauses.at -= 59.5
        ca.open.set()

    client = new_client(pacing=replace(pauses.pacing, sleep=answers_again))
    assert await client.sign(CSR, HOUR)
    first, second = ca.calls
    assert first.connection != second.connection


async def test_a_task_that_is_cancelled_stays_cancelled(
    client: IstioAuthority, ca: IstioCa
) -> None:
    ca.open.clear()
    task = asyncio.create_task(_sign(client))
    await soon(lambda: ca.calls, "the call")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(ca.calls) == 1


async def _sign(client: IstioAuthority) -> list[bytes]:
    return list(await client.sign(CSR, HOUR))


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "UNAVAILABLE"])
async def test_a_token_that_the_ca_repeats_is_told_to_nobody(
    client: IstioAuthority, ca: IstioCa, files: ClientFiles, code: str
) -> None:
    token = files.token.read_text().strip()
    ca.failures = [(grpc.StatusCode[code], f"bad token {token}!")] * 6
    with capture_logs() as events, pytest.raises(AuthorityError) as failed:
        await client.sign(CSR, HOUR)
    told = "".join(traceback.format_exception(failed.value)) + repr((events, client))
    assert "bad token (the token)!" in told
    assert token not in told
    assert token.split(".")[1] not in told


async def test_what_the_ca_says_is_cut_and_made_printable(
    client: IstioAuthority, ca: IstioCa
) -> None:
    ca.failures = [(grpc.StatusCode.NOT_FOUND, "a\x1b[31mb\nc" + "x" * 1000)]
    with pytest.raises(AuthorityError) as refused:
        await client.sign(CSR, HOUR)
    text = str(refused.value)
    assert text.isprintable()
    assert "a [31mb cxxx" in text
    assert len(text) < 400


async def test_what_to_compare_is_told_when_the_ca_does_not_know_the_caller(
    new_client: NewClient,
) -> None:
    with pytest.raises(AuthorityError, match="audience, the cluster ID, and the SPIFFE ID"):
        await new_client(cluster_id="elsewhere").sign(CSR, HOUR)


async def test_several_certificates_in_one_element_are_read(
    client: IstioAuthority, ca: IstioCa
) -> None:
    pki = ca.rules.pki
    second = certificates.root("second root", at=now())
    ca.tamper = lambda chain: ["".join(chain[:2]), chain[-1] + pem(second.certificate)]
    _leaf, *others = await client.sign(CSR, HOUR)
    assert others == [pki.intermediate.der, pki.root.der, second.der]


def _pem(csr: bytes) -> str:
    return x509.load_der_x509_csr(csr).public_bytes(Encoding.PEM).decode()
