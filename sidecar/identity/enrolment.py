"""From nothing to a checked certificate: key, CSR, the CA's answer, the checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from sidecar.ca.failover import Failover
from sidecar.core.certificate_verify import Side
from sidecar.core.chain import CertificateChain, verified_chain
from sidecar.core.csr import build_csr
from sidecar.core.journal import NOWHERE, Journal
from sidecar.core.schemes import SignatureScheme
from sidecar.core.spiffe import SpiffeId
from sidecar.core.token_key import token_private_key
from sidecar.core.trust import TrustBundle
from sidecar.errors import MeshkeyError
from sidecar.identity.keys import KeySource
from sidecar.token.base import Token, TokenKey
from sidecar.token.executor import TokenExecutor

# A certificate with less left is not worth a key, unless so little was wished for.
_LEAST_LEFT = timedelta(minutes=1)


@dataclass(frozen=True)
class Enrolled:
    """A key with its chain, ready to be published."""

    key: TokenKey
    # What the token was seen to sign with it, best first.
    schemes: tuple[SignatureScheme, ...]
    chain: CertificateChain
    # The name of the CA that signed it.
    authority: str


@dataclass(frozen=True)
class Wish:
    """What a certificate is to be."""

    # Sides of TLS that it is for.
    sides: frozenset[Side]
    # The authority may give less, or more, up to `longest`.
    lifetime: timedelta
    longest: timedelta


class Enrolment:
    """Gets one key per `run` certified for one SPIFFE ID."""

    def __init__(
        self,
        spiffe_id: SpiffeId,
        wish: Wish,
        keys: KeySource,
        token: Token,
        executor: TokenExecutor,
        authorities: Failover,
        journal: Journal = NOWHERE,
    ) -> None:
        self._spiffe_id = spiffe_id
        self._wish = wish
        self._keys = keys
        self._token = token
        self._executor = executor
        self._authorities = authorities
        self._journal = journal

    async def run(
        self, now: Callable[[], datetime], generation: int, bundle: Callable[[], TrustBundle]
    ) -> Enrolled:
        """Obtains the key of `generation` and a chain for it under the roots in `bundle`.

        An authority may take days: what counts is the time, and the roots, when it answers.

        Raises what the token or the authorities raise, or `CertificateRefused`.

        After a failure or a cancellation the key of this attempt is discarded.
        """
        # A key that nobody would certify keeps a slow token from signing.
        self._authorities.require_any()
        obtaining = asyncio.ensure_future(self._keys.obtain(generation))
        try:
            # Shielded: a thread that makes a key cannot be stopped, only waited for.
            key = await asyncio.shield(obtaining)
            schemes = await self._executor.run(lambda: tuple(self._token.schemes(key)))
            authority, chain = await self._certify(key, bundle, now)
        except BaseException:
            await self._discard(obtaining)
            raise
        return Enrolled(key, schemes, chain, authority)

    async def discard(self, enrolled: Enrolled) -> None:
        """Takes back what nobody may use any more."""
        await self._keys.discard(enrolled.key)

    async def _certify(
        self, key: TokenKey, bundle: Callable[[], TrustBundle], now: Callable[[], datetime]
    ) -> tuple[str, CertificateChain]:
        private = token_private_key(
            key.public_key, lambda scheme, message: self._token.sign(key.id, scheme, message)
        )
        csr = await self._executor.run(lambda: build_csr(self._spiffe_id, private))
        self._journal.record(
            "certificate requested", key_id=str(key.id), csr_sha256=sha256(csr).hexdigest()
        )

        def accept(answer: Sequence[bytes]) -> CertificateChain:
            return verified_chain(
                answer,
                public_key=key.public_key,
                spiffe_id=self._spiffe_id,
                roots=bundle().roots,
                now=now(),
                sides=self._wish.sides,
                least_left=min(_LEAST_LEFT, self._wish.lifetime / 2),
                longest=self._wish.longest,
            )

        return await self._authorities.obtain(csr, self._wish.lifetime, accept)

    async def _discard(self, obtaining: asyncio.Future[TokenKey]) -> None:
        try:
            key = await obtaining
        except MeshkeyError:
            return  # there is no key
        await self._keys.discard(key)
