"""What the contract suite needs to know of a kind of certificate authority."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from sidecar.ca.base import CertificateAuthority
from sidecar.core.chain import CertificateChain, verified_chain
from sidecar.core.csr import build_csr
from sidecar.core.spiffe import SpiffeId
from tests.fixtures import certificates
from tests.fixtures.mesh import spiffe_id

ID = SpiffeId.parse(spiffe_id())
KEY = certificates.new_key()
LIFETIME = timedelta(minutes=20)


@dataclass
class Authority:
    """A client that is ready to ask, and the root that its answers lead to."""

    client: CertificateAuthority
    root: x509.Certificate
    # After it nobody answers.
    go_away: Callable[[], Awaitable[None]]
    # The shortest lifetime that it gives.
    shortest: timedelta = timedelta(minutes=1)
    # Names of the suite's bad requests that it does not refuse, as it takes nothing from a
    # request but the key.
    ignores: frozenset[str] = frozenset()

    async def chain(self, lifetime: timedelta = LIFETIME) -> CertificateChain:
        """Asks for a certificate for `ID` and `KEY`."""
        return self.verified(await self.client.sign(build_csr(ID, KEY), lifetime))

    def verified(self, answer: Sequence[bytes]) -> CertificateChain:
        return verified_chain(
            answer, public_key=KEY.public_key(), spiffe_id=ID, roots=[self.root], now=now()
        )


Opens = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Authority]]


@dataclass(frozen=True)
class Kind:
    """How to open one; fixtures that only this kind needs are asked for by name."""

    # For tests that leave it as it was: it may be the same for all of them.
    lasting: Opens
    # For a test that makes it go away.
    mortal: Opens


def now() -> datetime:
    return datetime.now(UTC)
