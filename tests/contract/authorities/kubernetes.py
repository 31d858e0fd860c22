"""A signer behind the Kubernetes API, which approves and signs whatever is right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.ca.kubernetes import KubernetesAuthority
from tests.contract.authorities.base import Authority, Kind
from tests.fixtures.kubernetes import running_cluster

_DEADLINE = timedelta(minutes=1)


@asynccontextmanager
async def _kubernetes(request: pytest.FixtureRequest) -> AsyncIterator[Authority]:
    directory: Path = request.getfixturevalue("tmp_path")
    with running_cluster(directory) as running:
        running.cluster.react = running.cluster.approve_and_issue
        client = KubernetesAuthority("example.com/mesh", _DEADLINE, running.connection())

        async def go_away() -> None:
            await asyncio.to_thread(running.api.stop)

        yield Authority(
            client,
            running.signer.root.certificate,
            go_away,
            shortest=timedelta(minutes=10),  # the API's own limit
        )


KUBERNETES = Kind(lasting=_kubernetes, mortal=_kubernetes)
