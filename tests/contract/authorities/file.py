"""Files, and an operator who looks at the directory whenever meshkey pauses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.ca.file import FileAuthority
from sidecar.core.csr import build_csr
from tests.contract.authorities.base import ID, KEY, LIFETIME, Authority, Kind, now
from tests.fakes.authority import FakeAuthority
from tests.fixtures.mesh import TRUST_DOMAIN

_DEADLINE = timedelta(minutes=1)


class _Operator:
    """Signs the key that he finds, for the name on his list and a lifetime he was told."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.signer = FakeAuthority(TRUST_DOMAIN, now)
        self.lifetime = LIFETIME
        self.absent_s = 0.0

    def clock(self) -> float:
        return time.monotonic() + self.absent_s

    async def pause(self, _seconds: float) -> None:
        await asyncio.sleep(0)
        if not self.signer.available:
            self.absent_s += _DEADLINE.total_seconds()
            return
        csr = x509.load_pem_x509_csr((self._directory / "web.csr").read_bytes())
        assert csr.public_key() == KEY.public_key()
        leaf = self.signer._leaf(build_csr(ID, KEY), self.lifetime)
        pem = leaf.public_bytes(Encoding.PEM) + self.signer.root.pem
        (self._directory / "web.pem").write_bytes(pem)


class _AskingAnew(FileAuthority):
    """The suite asks with one key each time, as no identity does: yesterday's chain would do."""

    def __init__(self, directory: Path, operator: _Operator) -> None:
        super().__init__(directory, "web", _DEADLINE, clock=operator.clock, sleep=operator.pause)
        self._chain = directory / "web.pem"
        self._operator = operator

    async def sign(self, csr: bytes, lifetime: timedelta) -> list[bytes]:
        self._chain.unlink(missing_ok=True)
        self._operator.lifetime = lifetime
        return list(await super().sign(csr, lifetime))


@asynccontextmanager
async def _file(request: pytest.FixtureRequest) -> AsyncIterator[Authority]:
    directory: Path = request.getfixturevalue("tmp_path")
    operator = _Operator(directory)

    async def go_away() -> None:
        operator.signer.available = False

    yield Authority(
        _AskingAnew(directory, operator),
        operator.signer.root.certificate,
        go_away,
        ignores=frozenset({"domain"}),
    )


FILE = Kind(lasting=_file, mortal=_file)
