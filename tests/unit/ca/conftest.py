"""A CA of Istio's kind, what a pod has of it, and clients of it; a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar.ca.istio import IstioAuthority
from tests.fakes.istio_ca import CLUSTER_ID, SERVER_NAME, ClientFiles, IstioCa
from tests.fakes.istio_ca import running as running_ca
from tests.fakes.istio_rules import Istiod, Rules
from tests.fixtures.kubernetes import RunningCluster, running_cluster
from tests.fixtures.mesh import TRUST_DOMAIN
from tests.fixtures.pauses import Pauses

NewClient = Callable[..., IstioAuthority]


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def rules() -> Rules:
    """Override it by parameters of the test."""
    return Istiod()


@pytest.fixture
async def ca(rules: Rules) -> AsyncIterator[IstioCa]:
    async with running_ca(rules, TRUST_DOMAIN) as started:
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


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningCluster]:
    with running_cluster(tmp_path) as started:
        yield started
