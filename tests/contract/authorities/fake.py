"""The fake of tests that need no wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.contract.authorities.base import Authority, Kind, now
from tests.fakes.authority import FakeAuthority
from tests.fixtures.mesh import TRUST_DOMAIN


@asynccontextmanager
async def _fake(_request: pytest.FixtureRequest) -> AsyncIterator[Authority]:
    fake = FakeAuthority(TRUST_DOMAIN, now)

    async def go_away() -> None:
        fake.available = False

    yield Authority(fake, fake.root.certificate, go_away)


FAKE = Kind(lasting=_fake, mortal=_fake)
