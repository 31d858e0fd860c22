"""From nothing to a checked certificate, and no trace of what failed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from sidecar.core.csr import parse_csr
from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import (
    AuthorityError,
    AuthorityUnavailable,
    CertificateRefused,
    MeshkeyError,
    TokenUnavailable,
)
from sidecar.token.base import TokenKey
from tests.fixtures import certificates
from tests.fixtures.enrolment import LIFETIME, OWNER, SPIFFE_ID, World
from tests.fixtures.waiting import BOUND_S, soon


async def test_the_new_key_the_chain_and_the_roots_belong_together(world: World) -> None:
    enrolled = await world.enrolment().run(world.clock, 1, world.bundle)
    assert world.token.held_keys == {enrolled.key.id}
    assert enrolled.key.label == f"meshkey:tls:{OWNER}:1:{SPIFFE_ID}"
    assert enrolled.chain.not_after == world.clock() + LIFETIME
    assert enrolled.authority == "fake"
    ((csr, lifetime),) = world.authority.requests
    assert parse_csr(csr).public_key == enrolled.key.public_key
    assert lifetime == LIFETIME


async def test_every_run_makes_a_new_key(world: World) -> None:
    enrolment = world.enrolment()
    first, second = [await enrolment.run(world.clock, 1, world.bundle) for _ in range(2)]
    assert first.key.id != second.key.id


@pytest.mark.parametrize("failure", [AuthorityUnavailable("gone"), AuthorityError("no")])
async def test_when_the_authority_fails_no_key_is_left(world: World, failure: Exception) -> None:
    world.authority.failures.append(failure)
    with pytest.raises(MeshkeyError) as raised:
        await world.enrolment().run(world.clock, 1, world.bundle)
    assert raised.value is failure
    assert not world.token.held_keys


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda _: [], id="nothing"),
        pytest.param(lambda _: [b"garbage"], id="garbage"),
        pytest.param(lambda answer: [answer[1]], id="only the root"),
        pytest.param(lambda answer: [answer[0], b""], id="an empty certificate"),
    ],
)
async def test_when_the_answer_is_refused_no_key_is_left(
    world: World, tamper: Callable[[list[bytes]], list[bytes]]
) -> None:
    world.authority.tamper = tamper
    with pytest.raises(CertificateRefused):
        await world.enrolment().run(world.clock, 1, world.bundle)
    assert not world.token.held_keys


async def test_while_every_authority_is_left_alone_no_key_is_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, generate = [], world.token.generate

    def counting(algorithm: KeyAlgorithm, label: str) -> TokenKey:
        made.append(label)
        return generate(algorithm, label)

    monkeypatch.setattr(world.token, "generate", counting)
    monkeypatch.setattr(world.guarded, "_steady", lambda: timedelta(0))
    world.authority.available = False
    for _ in range(5):
        with pytest.raises(AuthorityUnavailable, match="fake CA: gone"):
            await world.enrolment().run(world.clock, 1, world.bundle)
    assert len(made) == 3


async def test_the_answers_own_root_is_not_trusted(world: World) -> None:
    world.trust_bundle.write_bytes(certificates.root("root").pem)
    with pytest.raises(
        CertificateRefused, match=r"does not lead to a trusted root: .*put that root where"
    ):
        await world.enrolment().run(world.clock, 1, world.bundle)
    assert not world.token.held_keys


async def test_who_stops_during_the_authoritys_answer_leaves_no_key(world: World) -> None:
    world.authority.open.clear()
    running = asyncio.create_task(world.enrolment().run(world.clock, 1, world.bundle))
    await soon(lambda: world.authority.requests)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not world.token.held_keys


async def test_who_stops_while_the_token_makes_the_key_leaves_no_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, entered, release = world.token.generate, threading.Event(), threading.Event()

    def slow(algorithm: KeyAlgorithm, label: str) -> TokenKey:
        entered.set()
        assert release.wait(BOUND_S)
        return generate(algorithm, label)

    monkeypatch.setattr(world.token, "generate", slow)
    running = asyncio.create_task(world.enrolment().run(world.clock, 1, world.bundle))
    await soon(entered.is_set)
    running.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    world.executor.close()
    assert not world.token.held_keys


async def test_a_key_that_cannot_be_destroyed_does_not_hide_what_failed_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_key_id: object) -> None:
        raise TokenUnavailable("gone")

    monkeypatch.setattr(world.token, "destroy", refuse)
    world.authority.failures.append(AuthorityError("no"))
    enrolment = world.enrolment()
    with pytest.raises(AuthorityError):
        await enrolment.run(world.clock, 1, world.bundle)
    world.authority.open.clear()
    running = asyncio.create_task(enrolment.run(world.clock, 1, world.bundle))
    await soon(lambda: len(world.authority.requests) == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(world.token.held_keys) == 2
    monkeypatch.undo()
    await world.destruction.destroy()
    assert not world.token.held_keys, "they are tried again with the next key's destruction"


async def test_the_first_failure_of_the_token_is_the_one_reported(world: World) -> None:
    world.token.available = False
    with pytest.raises(TokenUnavailable):
        await world.enrolment().run(world.clock, 1, world.bundle)
    assert not world.authority.requests
