"""Istio's certificate service, as each of the three CAs behind it serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from sidecar.ca.istio import IstioAuthority
from sidecar.ca.retries import Pacing
from tests.contract.authorities.base import Authority, Kind
from tests.fakes.istio_ca import CLUSTER_ID, SERVER_NAME, ClientFiles, running
from tests.fakes.istio_rules import IstioCsr, Istiod, IstiodRa, Rules
from tests.fixtures.mesh import TRUST_DOMAIN


def _kind(
    rules: Callable[[], Rules],
    shortest: timedelta = timedelta(minutes=1),
    ignores: frozenset[str] = frozenset(),
) -> Kind:
    @asynccontextmanager
    async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Authority]:
        files = ClientFiles(request.getfixturevalue("tmp_path"))
        async with running(rules(), TRUST_DOMAIN) as ca:
            files.write(ca)
            client = IstioAuthority(
                f"127.0.0.1:{ca.port}",
                root_file=files.root,
                token_file=files.token,
                cluster_id=CLUSTER_ID,
                server_name=SERVER_NAME,
                deadline=timedelta(seconds=60),
                pacing=Pacing(sleep=lambda _seconds: asyncio.sleep(0)),
            )
            yield Authority(client, ca.rules.pki.root.certificate, ca.stop, shortest, ignores)
            await client.close()

    return Kind(lasting=opened, mortal=opened)


# Istiod's own CA certifies whoever has the token, whatever the request names.
ISTIOD = _kind(Istiod, ignores=frozenset({"subject", "domain"}))
# The Kubernetes API behind it refuses less.
ISTIOD_RA = _kind(IstiodRa, shortest=timedelta(minutes=10))
ISTIO_CSR = _kind(IstioCsr)
