"""The world of one identity."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.identity import identity as identity_module
from tests.fixtures.enrolment import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    made.executor.close()


@pytest.fixture
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identities look at their clocks, and at what is left to clear away, all the time."""
    monkeypatch.setattr(identity_module, "_TICK_S", 0.01)
    monkeypatch.setattr(identity_module, "_AGAIN_S", 0.01)
