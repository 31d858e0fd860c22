"""A CA of Istio's kind, what a pod has of it, and clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar.ca.istio import IstioAuthority
from sidecar.ca.retries import Pacing
from tests.fakes.istio_ca import CLUSTER_ID, SERVER_NAME, ClientFiles, IstioCa, running
from tests.fakes.istio_rules import Istiod, Rules
from tests.fixtures.mesh import TRUST_DOMAIN

NewClient = Callable[..., IstioAuthority]


@dataclass
class Pauses:
    """A clock that only sleep moves, and a sleep that takes no time."""

    at: float = 1000.0
    slept: list[float] = field(default_factory=list)
    # Seconds that pass after the clock was read, one a reading.
    after_reading: list[float] = field(default_factory=list)
    luck: float = 0.5

    def now(self) -> float:
        read = self.at
        if self.after_reading:
            self.at += self.after_reading.pop(0)
        return read

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds
        await asyncio.sleep(0)

    @property
    def pacing(self) -> Pacing:
        return Pacing(now=self.now, sleep=self.sleep, random=lambda: self.luck)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def rules() -> Rules:
    """Override it by parameters of the test."""
    return Istiod()


@pytest.fixture
async def ca(rules: Rules) -> AsyncIterator[IstioCa]:
    async with running(rules, TRUST_DOMAIN) as started:
        yield started


@pytest.fixture
def files(ca: IstioCa, tmp_path: Path) -> ClientFiles:
    written = ClientFiles(tmp_path)
    written.write(ca)
    return written


@pytest.fixture
async def new_client(ca: IstioCa, files: ClientFiles, pauses: Pauses) -> AsyncIterator[NewClient]:
    """Clients that are right unless an argument says otherwise."""
    made: list[IstioAuthority] = []

    def client(**changes: Any) -> IstioAuthority:
        right = {
            "address": f"127.0.0.1:{ca.port}",
            "root_file": files.root,
            "token_file": files.token,
            "cluster_id": CLUSTER_ID,
            "server_name": SERVER_NAME,
            "deadline": timedelta(seconds=60),
            "pacing": pauses.pacing,
        }
        made.append(IstioAuthority(**{**right, **changes}))
        return made[-1]

    yield client
    for each in made:
        await each.close()


@pytest.fixture
def client(new_client: NewClient) -> IstioAuthority:
    return new_client()
