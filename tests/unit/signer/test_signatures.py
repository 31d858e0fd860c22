"""From a request to its one answer."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.core.deny_list import WhenStale
from sidecar.core.lease import LeaseTerms
from sidecar.core.schemes import SignatureScheme
from sidecar.errors import (
    LoginRefused,
    NoSuchKey,
    PinLocked,
    PinRefused,
    RefusalReason,
    SigningRefused,
    TokenError,
    TokenUnavailable,
)
from sidecar.identity.destruction import Destruction
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.signer.quota import Quota
from sidecar.signer.signatures import Signatures
from sidecar.telemetry import Answers
from sidecar.token.base import KeyId
from sidecar.token.executor import Caller, TokenExecutor
from tests.fakes.callers import everything_of
from tests.fixtures.deny_lists import DenyWorld, deny_list
from tests.fixtures.enrolment import LIFETIME, SPIFFE_ID, World
from tests.fixtures.requests import SCHEME, sign_request, verify
from tests.fixtures.waiting import settle, soon


class _Signer:
    """Signatures with the key of one published identity."""

    def __init__(self, world: World, identity: Identity, quota: Quota | None = None) -> None:
        self.now = 0.0
        self.caller = Caller()
        self.identity = identity
        self.signatures = Signatures(
            IdentityRegistry([identity]),
            world.token,
            world.executor,
            clock=lambda: self.now,
            quota=quota,
        )
        assert identity.store.current
        self.key_id: KeyId = identity.store.current.key_id

    async def answer(self, request: pb.SignRequest | SigningRefused) -> pb.SignResponse:
        answered: asyncio.Future[pb.SignResponse] = asyncio.get_running_loop().create_future()
        permissions = everything_of("default")
        self.signatures.begin(request, answered.set_result, self.caller, permissions)
        return await answered


@pytest.fixture
async def signer(world: World) -> _Signer:
    identity = world.identity()
    await identity.renew()
    return _Signer(world, identity)


async def test_a_handshake_is_signed(signer: _Signer, world: World) -> None:
    request = sign_request(signer.key_id, request_id=7)
    answer = await signer.answer(request)
    (key,) = await world.executor.run(world.token.keys)
    verify(key.public_key, request, answer)
    assert signer.signatures.counts.signed == 1


async def test_a_refusal_comes_with_reason_and_detail_and_costs_the_token_nothing(
    signer: _Signer, world: World
) -> None:
    before = world.token.signatures
    answer = await signer.answer(sign_request(b"another", request_id=7))
    assert answer.request_id == 7
    assert answer.refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY
    assert "no such key here" in answer.refusal.detail
    assert world.token.signatures == before
    assert signer.signatures.counts.refused == 1


async def test_a_request_that_could_not_be_read_is_refused_under_number_0(signer: _Signer) -> None:
    answer = await signer.answer(SigningRefused(RefusalReason.MESSAGE, "no SignRequest"))
    assert answer.request_id == 0
    assert answer.refusal.reason == pb.Refusal.REASON_MESSAGE


async def test_answers_are_counted_by_the_scheme_that_was_asked_for(
    signer: _Signer, world: World
) -> None:
    counts = signer.signatures.counts
    other_scheme, no_scheme = sign_request(signer.key_id), sign_request(signer.key_id)
    other_scheme.scheme, no_scheme.scheme = SignatureScheme.ED25519, 0x9999
    for request in (sign_request(signer.key_id), other_scheme, no_scheme, no_scheme):
        await signer.answer(request)
    await signer.answer(SigningRefused(RefusalReason.MESSAGE, "no SignRequest"))
    world.token.available = False
    await signer.answer(sign_request(signer.key_id))
    counted = {scheme: each for scheme, each in counts.by_scheme.items() if each != Answers()}
    assert counted == {
        SCHEME: Answers(signed=1, told_to_retry=1),
        SignatureScheme.ED25519: Answers(refused=1),
    }
    assert counts.other == Answers(refused=3)
    assert (counts.signed, counts.refused, counts.told_to_retry) == (1, 4, 1)


async def test_what_went_to_the_token_is_timed_up_to_its_answer(
    signer: _Signer, world: World
) -> None:
    await signer.answer(sign_request(b"another"))
    assert signer.signatures.counts.times.sum == 0
    world.token.hold(signer.key_id)
    answering = asyncio.create_task(signer.answer(sign_request(signer.key_id)))
    await soon(lambda: world.token.waiting)
    signer.now += 3.0
    world.token.release(signer.key_id)
    await answering
    times = dict(signer.signatures.counts.times.cumulative())
    assert (times[2], times[5], times[math.inf]) == (0, 1, 1)


async def test_of_those_told_to_retry_the_busy_ones_are_counted(
    signer: _Signer, world: World
) -> None:
    world.token.hold(signer.key_id)
    ask = sign_request(signer.key_id)
    answering = [asyncio.create_task(signer.answer(ask)) for _ in range(world.threads)]
    await soon(lambda: len(world.token.waiting) == world.threads)
    answering += [asyncio.create_task(signer.answer(ask)) for _ in range(world.backlog)]
    await settle()
    assert (await signer.answer(ask)).retry.reason == pb.Retry.REASON_BUSY
    world.token.release(signer.key_id)
    await asyncio.gather(*answering)
    world.token.available = False
    await signer.answer(ask)
    assert (signer.signatures.counts.busy, signer.signatures.counts.told_to_retry) == (1, 2)


async def test_over_the_callers_rate_everything_is_answered_busy_and_counted_apart(
    signer: _Signer, world: World
) -> None:
    before = world.token.signatures
    limited = _Signer(world, signer.identity, Quota(caller_rate=2, clock=lambda: 0.0))
    first = await limited.answer(sign_request(limited.key_id, request_id=1))
    assert first.WhichOneof("result") == "signature"
    # What is refused costs too, so it counts.
    await limited.answer(SigningRefused(RefusalReason.MESSAGE, "no SignRequest"))
    over: list[pb.SignRequest | SigningRefused] = [
        sign_request(limited.key_id, request_id=3),
        sign_request(b"another", request_id=3),
        SigningRefused(RefusalReason.MESSAGE, "no SignRequest"),
    ]
    answers = [await limited.answer(request) for request in over]
    assert {answer.retry.reason for answer in answers} == {pb.Retry.REASON_BUSY}
    assert [answer.request_id for answer in answers] == [3, 3, 0]
    assert "raise signer.caller_rate" in answers[0].retry.detail
    assert world.token.signatures == before + 1
    counts = limited.signatures.counts
    assert (counts.over_rate, counts.busy, counts.told_to_retry, counts.refused) == (3, 0, 3, 1)
    another = _Signer(world, signer.identity, limited.signatures.quota)
    answer = await another.answer(sign_request(limited.key_id))
    assert answer.WhichOneof("result") == "signature"


async def test_over_the_keys_rate_every_caller_is_answered_busy(
    signer: _Signer, world: World
) -> None:
    quota = Quota(key_rate=2, clock=lambda: 0.0)
    callers = [_Signer(world, signer.identity, quota) for _ in range(3)]
    # What names no key of ours takes nothing from one.
    await callers[0].answer(sign_request(b"another"))
    answers = [await caller.answer(sign_request(signer.key_id)) for caller in callers]
    assert [answer.WhichOneof("result") for answer in answers] == ["signature"] * 2 + ["retry"]
    assert answers[2].retry.reason == pb.Retry.REASON_BUSY
    assert "raise signer.key_rate" in answers[2].retry.detail
    assert callers[2].signatures.counts.over_rate == 1


async def test_an_expired_key_is_refused(signer: _Signer, world: World) -> None:
    world.clock.advance(LIFETIME)
    answer = await signer.answer(sign_request(signer.key_id))
    assert answer.refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY


async def test_a_lost_token_is_a_reason_to_retry(signer: _Signer, world: World) -> None:
    world.token.available = False
    answer = await signer.answer(sign_request(signer.key_id, request_id=7))
    assert answer.request_id == 7
    assert answer.retry.reason == pb.Retry.REASON_TOKEN_UNAVAILABLE
    assert "is not there" in answer.retry.detail
    assert signer.signatures.counts.told_to_retry == 1
    world.token.available = True
    answer = await signer.answer(sign_request(signer.key_id))
    assert answer.WhichOneof("result") == "signature"


@pytest.mark.parametrize("refusal", [PinRefused("wrong PIN"), PinLocked("locked PIN")])
async def test_a_token_without_a_login_is_unavailable_and_no_bug(
    signer: _Signer, world: World, monkeypatch: pytest.MonkeyPatch, refusal: LoginRefused
) -> None:
    def sign(*_arguments: object) -> bytes:
        raise refusal

    monkeypatch.setattr(world.token, "sign", sign)
    with capture_logs() as logs:
        answer = await signer.answer(sign_request(signer.key_id))
    assert answer.retry.reason == pb.Retry.REASON_TOKEN_UNAVAILABLE
    assert answer.retry.detail == str(refusal)
    assert [entry["event"] for entry in logs] == ["token unavailable"]


async def test_a_full_backlog_is_a_reason_to_retry_and_stands_in_nobodys_way(
    signer: _Signer, world: World
) -> None:
    world.token.hold(signer.key_id)
    requests = [sign_request(signer.key_id, number) for number in range(12)]
    waiting = [asyncio.ensure_future(signer.answer(request)) for request in requests]
    await soon(lambda: sum(answer.done() for answer in waiting) == 4)
    for answer in waiting[8:]:
        assert answer.result().retry.reason == pb.Retry.REASON_BUSY
    world.token.release(signer.key_id)
    for answer in waiting[:8]:
        assert (await answer).WhichOneof("result") == "signature"


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (TokenUnavailable("the token left"), "the token left"),
        (NoSuchKey("no key 0a1f"), "no key 0a1f"),
        (TokenError("answered MechanismInvalid"), "internal error; see the log"),
        (ZeroDivisionError("a bug with a secret"), "internal error; see the log"),
    ],
)
async def test_no_error_goes_without_an_answer_and_bugs_tell_callers_nothing(
    signer: _Signer, world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, detail: str
) -> None:
    def fail(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(world.token, "sign", fail)
    answer = await signer.answer(sign_request(signer.key_id, request_id=7))
    assert answer.request_id == 7
    assert answer.retry.detail == detail


async def test_a_lost_key_means_retry_until_another_one_is_published(
    signer: _Signer, world: World
) -> None:
    running = asyncio.create_task(signer.identity.run())
    await settle()
    world.authority.open.clear()
    world.token.lose(signer.key_id)
    with capture_logs() as logs:
        for _ in range(3):
            answer = await signer.answer(sign_request(signer.key_id))
            assert answer.retry.reason == pb.Retry.REASON_TOKEN_UNAVAILABLE
        world.authority.open.set()
        await soon(lambda: signer.identity.store.generation == 2, "a new key")
    current = signer.identity.store.current
    assert current
    answer = await signer.answer(sign_request(current.key_id))
    assert answer.WhichOneof("result") == "signature"
    assert [e["event"] for e in logs if e["log_level"] == "error"] == ["key lost"]
    running.cancel()


async def test_a_key_that_changed_is_never_asked_for_again(signer: _Signer, world: World) -> None:
    world.token.change(signer.key_id)
    for _ in range(3):
        answer = await signer.answer(sign_request(signer.key_id))
        assert answer.retry.reason == pb.Retry.REASON_TOKEN_UNAVAILABLE
    assert world.token.changed_key_asked_for == 1
    assert signer.signatures.counts.told_to_retry == 3


async def test_refusals_do_not_flood_the_log_and_are_all_counted(signer: _Signer) -> None:
    wrong_scheme = sign_request(signer.key_id)
    wrong_scheme.scheme = 0x0401
    with capture_logs() as logs:
        for _ in range(1000):
            await signer.answer(sign_request(b"another"))
        await signer.answer(wrong_scheme)
        signer.now += 1.0
        await signer.answer(sign_request(b"another"))
    assert signer.signatures.counts.refused == 1002
    assert [(e["reason"], e["suppressed"]) for e in logs] == [
        ("UNKNOWN_KEY", 0),
        ("SCHEME", 0),
        ("UNKNOWN_KEY", 999),
    ]


async def test_a_token_that_is_gone_does_not_flood_the_log(signer: _Signer, world: World) -> None:
    world.token.available = False
    with capture_logs() as logs:
        for _ in range(100):
            await signer.answer(sign_request(signer.key_id))
        signer.now += 1.0
        await signer.answer(sign_request(signer.key_id))
    assert [(e["event"], e.get("suppressed")) for e in logs] == [
        ("token unavailable", 0),
        ("token left alone", None),
        ("token unavailable", 99),
    ]


@pytest.mark.parametrize("where", ["in the queue", "in the token"])
async def test_a_key_that_ends_while_a_request_waits_signs_it_no_more(
    world: World, where: str
) -> None:
    """With one thread: the first request is in the token, the second in the queue behind it."""
    world.executor.close()
    world.executor = TokenExecutor(1, 1024)
    world.destruction = Destruction(world.token, world.executor)
    identity = world.identity()
    await identity.renew()
    signer = _Signer(world, identity)
    world.token.hold(signer.key_id)
    requests = [sign_request(signer.key_id, request_id=number) for number in (1, 2)]
    answers = [asyncio.ensure_future(signer.answer(request)) for request in requests]
    await soon(lambda: world.token.waiting == [signer.key_id])
    made = world.token.signatures
    ending = asyncio.ensure_future(identity.deprovision())
    await settle()
    world.token.release(signer.key_id)
    answer = await answers[0 if where == "in the token" else 1]
    assert answer.refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY
    assert "the key has ended" in answer.refusal.detail
    await asyncio.gather(*answers)
    # The one that was in the token was made, and thrown away; the other never reached it.
    assert world.token.signatures == made + 1
    assert (await ending).problems == ()


@pytest.mark.parametrize(
    ("past", "reason", "told"),
    [
        (LIFETIME / 2, pb.Refusal.REASON_LEASE, "the key's lease is over"),
        (LIFETIME, pb.Refusal.REASON_UNKNOWN_KEY, "the key has ended"),
    ],
    ids=["lease", "certificate"],
)
async def test_a_signature_that_comes_too_late_does_not_leave(
    world: World, past: timedelta, reason: pb.Refusal.Reason, told: str
) -> None:
    world.terms = LeaseTerms(LIFETIME / 2)
    identity = world.identity()
    await identity.renew()
    signer = _Signer(world, identity)
    world.token.hold(signer.key_id)
    answering = asyncio.ensure_future(signer.answer(sign_request(signer.key_id)))
    await soon(lambda: world.token.waiting == [signer.key_id])
    world.clock.advance(past)
    world.token.release(signer.key_id)
    answer = await answering
    assert answer.refusal.reason == reason
    assert told in answer.refusal.detail
    assert signer.signatures.counts.signed == 0


@pytest.mark.parametrize("when_stale", WhenStale)
async def test_a_deny_list_that_comes_while_a_request_waits_counts_for_it(
    world: World, tmp_path: Path, when_stale: WhenStale
) -> None:
    lists = DenyWorld(tmp_path)
    lists.put(deny_list(1))
    world.denials = followed = await lists.life(when_stale)
    identity = world.identity()
    await identity.renew()
    signer = _Signer(world, identity)
    world.token.hold(signer.key_id)
    answering = asyncio.ensure_future(signer.answer(sign_request(signer.key_id)))
    await soon(lambda: world.token.waiting == [signer.key_id])
    if when_stale is WhenStale.REFUSE:
        lists.clock.advance(LIFETIME * 3)
    else:
        lists.put(deny_list(2, SPIFFE_ID))
        assert await followed.look()
    world.token.release(signer.key_id)
    answer = await answering
    if when_stale is WhenStale.REFUSE:
        assert "the deny list is stale" in answer.retry.detail
    else:
        assert "is on the deny list of sequence 2" in answer.refusal.detail


async def test_another_key_of_the_identity_goes_on_signing(signer: _Signer, world: World) -> None:
    identity = signer.identity
    with identity.store.subscribe():
        await identity.renew()
        assert identity.store.current
        new = identity.store.current.key_id
        await identity.revoke(signer.key_id)
        assert (await signer.answer(sign_request(signer.key_id))).HasField("refusal")
        assert (await signer.answer(sign_request(new))).HasField("signature")
