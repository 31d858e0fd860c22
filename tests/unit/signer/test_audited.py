"""No signature and no refusal leaves before its record is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.audit.base import Asked, Done
from sidecar.core.process import CallingProcess
from sidecar.errors import AuditUnavailable, RefusalReason, SigningRefused
from sidecar.identity.registry import IdentityRegistry
from sidecar.signer.signatures import Signatures
from sidecar.token.base import KeyId
from sidecar.token.executor import Caller
from tests.fakes.callers import everything_of
from tests.fixtures.enrolment import World
from tests.fixtures.requests import sign_request
from tests.fixtures.waiting import settle, soon

FULL = AuditUnavailable("the audit log cannot be written: No space left on device")
PROCESS = CallingProcess(1000, 7, "ab" * 32)


class _Audit:
    """Writes a record when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Asked, str, Done]] = []
        self.full = False

    def require_room(self) -> None:
        if self.full:
            raise FULL

    def request(self, asked: Asked, result: str, done: Done) -> None:
        self.asked.append((asked, result, done))


@pytest.fixture
def audit() -> _Audit:
    return _Audit()


class _Signer:
    def __init__(self, world: World, registry: IdentityRegistry, audit: _Audit) -> None:
        self.answers: list[pb.SignResponse] = []
        self.signatures = Signatures(registry, world.token, world.executor, audit=audit)

    def ask(self, request: pb.SignRequest | SigningRefused) -> None:
        permissions = everything_of("default")
        self.signatures.begin(request, self.answers.append, Caller(PROCESS), permissions)


@pytest.fixture
async def key_id(world: World, audit: _Audit) -> Callable[[], tuple[_Signer, KeyId]]:
    identity = world.identity()
    await identity.renew()
    assert identity.store.current
    found = identity.store.current.key_id
    return lambda: (_Signer(world, IdentityRegistry([identity]), audit), found)


Signing = Callable[[], tuple[_Signer, KeyId]]


async def test_a_signature_waits_for_its_record(key_id: Signing, audit: _Audit) -> None:
    signer, ours = key_id()
    request = sign_request(ours, 7)
    signer.ask(request)
    await soon(lambda: audit.asked)
    await settle()
    assert not signer.answers
    assert signer.signatures.counts.signed == 0
    asked, result, done = audit.asked[0]
    assert asked == Asked(
        PROCESS, ours.value, "tls13-server", "ECDSA_SECP256R1_SHA256", request.message
    )
    assert result == "signed"
    done(None)
    (answer,) = signer.answers
    assert answer.request_id == 7
    assert answer.signature
    assert signer.signatures.counts.signed == 1


async def test_a_signature_without_a_record_is_not_given_away(
    key_id: Signing, audit: _Audit
) -> None:
    signer, ours = key_id()
    signer.ask(sign_request(ours, 7))
    await soon(lambda: audit.asked)
    audit.asked[0][2](FULL)
    (answer,) = signer.answers
    assert answer.WhichOneof("result") == "retry"
    assert "No space left" in answer.retry.detail
    assert signer.signatures.counts.signed == 0


async def test_the_token_is_not_asked_for_what_cannot_be_recorded(
    key_id: Signing, audit: _Audit, world: World
) -> None:
    signer, ours = key_id()
    audit.full = True
    before = world.token.signatures
    signer.ask(sign_request(ours, 7))
    (answer,) = signer.answers
    assert answer.retry.reason == pb.Retry.REASON_TOKEN_UNAVAILABLE
    assert world.token.signatures == before
    assert not audit.asked


async def test_a_refusal_waits_for_its_record(key_id: Signing, audit: _Audit) -> None:
    signer, _ = key_id()
    request = sign_request(b"another", 7)
    request.scheme, request.purpose = 0x9999, 99  # type: ignore[assignment]
    signer.ask(request)
    assert not signer.answers
    ((asked, result, done),) = audit.asked
    assert asked == Asked(PROCESS, b"another", "99", "0x9999", request.message)
    assert result == "refused UNKNOWN_KEY"
    done(None)
    assert signer.answers[0].refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY


async def test_what_could_not_be_read_is_recorded_as_refused(
    key_id: Signing, audit: _Audit
) -> None:
    signer, _ = key_id()
    signer.ask(SigningRefused(RefusalReason.MESSAGE, "no SignRequest"))
    ((asked, result, done),) = audit.asked
    assert (asked.key_id, asked.message, result) == (b"", b"", "refused MESSAGE")
    done(None)
    assert signer.answers[0].refusal.reason == pb.Refusal.REASON_MESSAGE


async def test_what_a_token_failed_to_do_is_no_record(
    key_id: Signing, audit: _Audit, world: World
) -> None:
    signer, ours = key_id()
    world.token.available = False
    signer.ask(sign_request(ours, 7))
    await soon(lambda: signer.answers)
    assert signer.answers[0].WhichOneof("result") == "retry"
    assert not audit.asked
