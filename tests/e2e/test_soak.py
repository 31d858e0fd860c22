"""Many rotations under load: no request is lost, and nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sidecar.demo.processes import wait_for
from tests.e2e.lab import Lab
from tests.e2e.rotating import THREADS, Rotating
from tests.e2e.soak import REQUESTS_PER_CONNECTION, Soak
from tests.e2e.usage import trends

# Each takes a second. `make soak` runs 500; fewer than ten show no trend.
ROTATIONS = max(int(os.environ.get("MESHKEY_SOAK_ROTATIONS", "50")), 10)
# Replaced keys go ten seconds later.
_GONE_BOUND_S = 60.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.timeout(120 + 4 * ROTATIONS)
def test_rotations_under_load_lose_no_request_and_leave_nothing_behind(
    lab: Lab, stack: ExitStack
) -> None:
    with Soak(lab, stack, say=print) as soak:
        soak.run(ROTATIONS)
    assert soak.lost == []
    soak.say(soak.summary())

    every_rotation_met_handshakes(soak)
    leaks = [trend for trend in trends(soak.samples) if trend.leaks]
    assert leaks == [], "\n".join(map(str, leaks))
    for name in soak.rotating:
        # The login's, and one for each thread.
        assert max(sample.sessions[name] for sample in soak.samples) <= 1 + THREADS

    replaced_keys_are_destroyed(soak)
    visiting_roots_are_gone(soak)
    generations_add_up(soak)
    ends_with_nothing(soak.client)
    ends_with_its_newest_key(soak.server)
    for envoy in (soak.client_envoy, soak.server_envoy):
        assert envoy.running
        assert "panicked" not in envoy.log.read_text(encoding="utf-8", errors="replace")


def every_rotation_met_handshakes(soak: Soak) -> None:
    handshakes = soak.server_handshakes.handshakes()
    assert set(handshakes) == {"server.ok"}
    assert set(soak.client_handshakes.handshakes()) == {"client.ok"}
    assert handshakes["server.ok"] >= soak.requests // REQUESTS_PER_CONNECTION
    for rotating in soak.rotating.values():
        assert rotating.sidecar.status().refused == 0
        assert rotating.ledger.rotations >= ROTATIONS
        # Each a new key.
        assert len(set(rotating.ledger.published)) == len(rotating.ledger.published)


def replaced_keys_are_destroyed(soak: Soak) -> None:
    """Says the token; the log may say anything."""
    pairs = [
        (rotating, set(rotating.ledger.read_on().published[:-1]))
        for rotating in soak.rotating.values()
    ]
    for rotating, replaced in pairs:
        wait_for(lambda: not replaced & rotating.keys(), "replaced keys are gone", _GONE_BOUND_S)  # noqa: B023


def visiting_roots_are_gone(soak: Soak) -> None:
    for rotating in soak.rotating.values():
        what = "the visiting root is trusted no more"
        wait_for(lambda: roots(rotating) == 1, what, _GONE_BOUND_S)  # noqa: B023
        # Each came, and the last one went if no other did.
        assert rotating.ledger.read_on().roots > soak.visits


def roots(rotating: Rotating) -> int:
    (identity,) = rotating.sidecar.status().identities
    return identity.trust[0].roots


def generations_add_up(soak: Soak) -> None:
    for rotating in soak.rotating.values():
        least = rotating.ledger.read_on().generation
        generation = rotating.sidecar.status().identities[0].generation
        assert least <= generation <= rotating.ledger.read_on().generation


def ends_with_nothing(rotating: Rotating) -> None:
    ended(rotating)
    assert rotating.store.keys == 0
    assert set(rotating.ledger.destroyed) >= set(rotating.ledger.published)


def ends_with_its_newest_key(rotating: Rotating) -> None:
    """The one that its next start takes up."""
    ended(rotating)
    assert rotating.store.keys == 1
    assert rotating.keys() == {rotating.ledger.published[-1]}


def ended(rotating: Rotating) -> None:
    assert rotating.sidecar.stop() == 0
    assert rotating.sessions == 0
    assert rotating.ledger.read_on().complaints == []
