"""What the doctor says of the deny list."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.config.deny_list import DenyListSettings
from sidecar.core.deny_list import WhenStale
from sidecar.doctor.deny_list import examine_deny_list
from sidecar.doctor.finding import Finding, Verdict
from tests.fixtures.deny_lists import OTHER, PEER, DenyWorld, ListSigner, deny_list


@pytest.fixture
async def world(tmp_path: Path) -> DenyWorld:
    """With a list that was taken."""
    made = DenyWorld(tmp_path)
    made.put(deny_list(5, PEER, OTHER))
    await made.life()
    return made


def _finding(world: DenyWorld, stale: WhenStale = WhenStale.KEEP) -> Finding:
    settings = DenyListSettings(world.files.file, world.files.key, world.state, stale)
    return examine_deny_list(settings, world.clock())


async def test_a_list_that_counts_is_well(world: DenyWorld) -> None:
    said = "sequence 5, SPIFFE IDs: 2, next update by 2030-01-01T13:00:00Z"
    assert _finding(world) == Finding("deny_list", Verdict.OK, said)


def test_it_looks_and_makes_nothing(tmp_path: Path) -> None:
    world = DenyWorld(tmp_path)
    world.put(deny_list(1))
    assert _finding(world).verdict is Verdict.OK
    assert not world.state.exists()


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (lambda world: world.files.file.unlink(), "No such file or directory; put it there"),
        (lambda world: world.put(deny_list(6), ListSigner()), "none of the keys has signed"),
        (lambda world: world.put(deny_list(4)), "sequence 4 is lower than 5, which was taken"),
        (lambda world: world.clock.advance(timedelta(hours=1)), "13:00:00Z: stale"),
        (lambda world: world.clock.advance(timedelta(hours=-1)), "issued in the future"),
    ],
)
async def test_no_list_that_counts_is_as_bad_as_it_is_configured(
    world: DenyWorld, breaks: Callable[[DenyWorld], None], said: str
) -> None:
    breaks(world)
    for stale, verdict in (
        (WhenStale.KEEP, Verdict.WARNING),
        (WhenStale.REFUSE, Verdict.FAILURE),
    ):
        finding = _finding(world, stale)
        assert finding.verdict is verdict
        assert said in finding.detail


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (lambda world: world.files.key.write_bytes(b""), "deny_list.key"),
        (lambda world: world.state.chmod(0o755), "is open to others"),
        (lambda world: (world.state / "deny-list.kept").write_bytes(b"{"), "torn or changed"),
    ],
)
async def test_what_would_end_a_start_is_a_failure(
    world: DenyWorld, breaks: Callable[[DenyWorld], None], said: str
) -> None:
    breaks(world)
    finding = _finding(world)
    assert finding.verdict is Verdict.FAILURE
    assert said in finding.detail
