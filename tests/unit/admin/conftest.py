"""The world of one identity, which status, health and metrics look at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.identity.identity import Identity
from tests.fixtures.enrolment import World


@pytest.fixture
async def world(short_dir: Path) -> AsyncIterator[World]:
    made = World(short_dir)
    yield made
    made.executor.close()


@pytest.fixture
def identity(world: World) -> Identity:
    return world.identity()
