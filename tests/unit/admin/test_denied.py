"""What status, health and metrics say of the deny list."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.admin.health import problems_of
from sidecar.admin.metrics import Numbers
from sidecar.admin.observed import Observed
from sidecar.admin.status import status_of
from sidecar.core.deny_list import WhenStale
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from tests.fixtures.deny_lists import OTHER, PEER, DenyWorld, deny_list
from tests.fixtures.enrolment import SPIFFE_ID, World
from tests.fixtures.scraping import Scraped


@pytest.fixture
def lists(tmp_path: Path) -> DenyWorld:
    return DenyWorld(tmp_path)


@pytest.fixture
async def seen(world: World, identity: Identity) -> Observed:
    await identity.renew()
    return Observed(world.token, world.executor, IdentityRegistry([identity]))


def _numbers(seen: Observed, lists: DenyWorld) -> dict[str, float]:
    scraped = Scraped.of(Numbers(seen, lists.clock).collect())
    names = ("sequence", "next_update_seconds", "stale", "refused_total")
    return {name: scraped.value(f"meshkey_deny_list_{name}") for name in names}


async def test_where_none_is_configured_there_is_nothing_to_see(
    seen: Observed, lists: DenyWorld
) -> None:
    assert not status_of(seen).HasField("deny_list")
    assert problems_of(seen) == []
    assert set(_numbers(seen, lists).values()) == {0}


async def test_the_list_that_counts_is_shown(seen: Observed, lists: DenyWorld) -> None:
    listed = deny_list(7, PEER, OTHER)
    lists.put(listed)
    seen = replace(seen, deny_list=await lists.life())
    told = status_of(seen).deny_list
    assert (told.sequence, told.entries) == (7, 2)
    assert (told.issued_at, told.next_update) == (1_893_499_200, 1_893_502_800)
    assert (told.overdue, told.error, told.refused) == ("", "", 0)
    assert problems_of(seen) == []
    assert _numbers(seen, lists) == {
        "sequence": 7,
        "next_update_seconds": 1_893_502_800,
        "stale": 0,
        "refused_total": 0,
    }


async def test_a_list_that_is_refused_is_shown_beside_the_one_that_counts(
    seen: Observed, lists: DenyWorld
) -> None:
    lists.put(deny_list(7))
    followed = await lists.life()
    lists.put(deny_list(6))
    await followed.look()
    seen = replace(seen, deny_list=followed)
    told = status_of(seen).deny_list
    assert (told.sequence, told.refused) == (7, 1)
    assert "one of sequence 7 was taken already" in told.error
    assert _numbers(seen, lists)["refused_total"] == 1
    # What counts, counts.
    assert problems_of(seen) == []


@pytest.mark.parametrize("when_stale", WhenStale)
async def test_stale_is_an_alarm_and_a_problem_where_nothing_is_signed(
    seen: Observed, lists: DenyWorld, when_stale: WhenStale
) -> None:
    lists.put(deny_list(7))
    seen = replace(seen, deny_list=await lists.life(when_stale))
    lists.clock.advance(timedelta(hours=1))
    overdue = "the deny list is stale since 2030-01-01T13:00:00Z"
    assert status_of(seen).deny_list.overdue == overdue
    assert _numbers(seen, lists)["stale"] == 1
    problems = {
        WhenStale.KEEP: [],
        WhenStale.REFUSE: [f"{overdue}, and nothing is signed without a newer one"],
    }
    assert problems_of(seen) == problems[when_stale]


async def test_none_yet_is_as_bad_as_a_stale_one(seen: Observed, lists: DenyWorld) -> None:
    seen = replace(seen, deny_list=await lists.life(WhenStale.REFUSE))
    assert problems_of(seen) == [
        "there is no deny list yet, and nothing is signed without a newer one"
    ]
    assert _numbers(seen, lists)["stale"] == 1
    assert status_of(seen).deny_list.sequence == 0


async def test_an_identity_that_is_on_it_is_a_problem(seen: Observed, lists: DenyWorld) -> None:
    lists.put(deny_list(7, SPIFFE_ID))
    seen = replace(seen, deny_list=await lists.life())
    assert problems_of(seen) == ["identity 'default': on the deny list, nothing is signed for it"]
