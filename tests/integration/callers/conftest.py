"""A server whose callers are other processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures.called import Called


@pytest.fixture
async def called(short_dir: Path) -> AsyncIterator[Called]:
    """Serves at short_dir / "direct", and behind a proxy at short_dir / "front"."""
    served = Called()
    async with served.direct(short_dir / "direct"), served.proxied(short_dir / "front"):
        yield served
