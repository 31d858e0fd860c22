"""What keeps a process from doing its work, and what does not yet."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from sidecar.admin.health import problems_of
from sidecar.admin.observed import Observed
from sidecar.errors import AuthorityUnavailable, TokenUnavailable
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from tests.fixtures.enrolment import LIFETIME, World
from tests.fixtures.waiting import BOUND_S, soon


@pytest.fixture
def seen(world: World, identity: Identity) -> Observed:
    return Observed(world.token, world.executor, IdentityRegistry([identity]))


async def test_before_the_first_certificate_nothing_can_be_signed(
    seen: Observed, world: World, identity: Identity
) -> None:
    assert problems_of(seen) == ["identity 'default': no certificate yet"]
    world.authority.failures.append(AuthorityUnavailable("the CA is gone"))
    with pytest.raises(AuthorityUnavailable):
        await identity.renew()
    assert problems_of(seen) == ["identity 'default': no certificate yet: the CA is gone"]
    await identity.renew()
    assert problems_of(seen) == []


@pytest.mark.parametrize("after", [LIFETIME * 0.8, LIFETIME * 0.99])
async def test_what_still_works_is_no_problem_yet(
    seen: Observed, world: World, identity: Identity, after: timedelta
) -> None:
    await identity.renew()
    world.clock.advance(after)
    assert problems_of(seen) == []


async def test_an_expired_certificate_is_one(
    seen: Observed, world: World, identity: Identity
) -> None:
    await identity.renew()
    world.clock.advance(LIFETIME)
    assert problems_of(seen) == ["identity 'default': expired"]


async def test_a_lease_that_is_over_is_one_and_says_since_when_and_why(
    seen: Observed, world: World, identity: Identity
) -> None:
    world.clock.suspend(timedelta(hours=1))
    await identity.renew()
    # As the wall clock has it, the certificate is valid.
    world.clock.suspend(LIFETIME)
    world.clock.jump(-LIFETIME)
    over = (
        "identity 'default': its lease is over: no CA has issued a certificate since "
        "2030-01-01T13:00:00+00:00"
    )
    assert problems_of(seen) == [over]
    world.authority.failures.append(AuthorityUnavailable("the CA is gone"))
    with pytest.raises(AuthorityUnavailable):
        await identity.renew()
    assert problems_of(seen) == [f"{over}: the CA is gone"]
    await identity.renew()
    assert problems_of(seen) == []


async def test_a_module_that_hangs_is_one_until_it_returns(
    seen: Observed, world: World, identity: Identity
) -> None:
    await identity.renew()
    began, release = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        release.wait(BOUND_S)

    hanging = asyncio.create_task(world.executor.run(hang))
    await soon(began.is_set)
    (job,) = world.executor._running.values()
    job.limit = 0.0
    with pytest.raises(TokenUnavailable):
        await hanging
    assert problems_of(seen) == ["token 'fake': its module has not returned from 1 calls in time"]
    release.set()
    await soon(lambda: not problems_of(seen))


async def test_a_process_without_identities_is_well(world: World) -> None:
    assert problems_of(Observed(world.token, world.executor)) == []
