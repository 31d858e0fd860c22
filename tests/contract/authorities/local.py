"""meshkey's own issuer, a process with a SoftHSM2 token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from cryptography import x509

from sidecar.ca.local import LocalAuthority
from tests.contract.authorities.base import Authority, Kind
from tests.fixtures.mesh import Mesh


def _lasting(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Authority]:
    async def stay() -> None:
        raise AssertionError("other tests ask it too")

    return _local(request.getfixturevalue("running_mesh"), stay)


def _mortal(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Authority]:
    mesh: Mesh = request.getfixturevalue("mesh")
    issuer = mesh.start_issuer()

    async def go_away() -> None:
        issuer.stop()

    return _local(mesh, go_away)


@asynccontextmanager
async def _local(mesh: Mesh, go_away: Callable[[], Awaitable[None]]) -> AsyncIterator[Authority]:
    root = x509.load_pem_x509_certificate(mesh.root_file.read_bytes())
    async with mesh.channel("ca") as channel:
        yield Authority(LocalAuthority(channel), root, go_away)


LOCAL = Kind(lasting=_lasting, mortal=_mortal)
