"""From nothing to a checked certificate: key, CSR, the CA's answer, the checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sidecar.ca.base import CertificateAuthority
from sidecar.core.chain import CertificateChain, verified_chain
from sidecar.core.csr import build_csr
from sidecar.core.schemes import SignatureScheme
from sidecar.core.spiffe import SpiffeId
from sidecar.core.token_key import token_private_key
from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused, MeshkeyError
from sidecar.identity.keys import KeySource
from sidecar.token.base import Token, TokenKey
from sidecar.token.executor import TokenExecutor


@dataclass(frozen=True)
class Enrolled:
    """A key with its chain, ready to be published."""

    key: TokenKey
    # What the token was seen to sign with it, best first.
    schemes: tuple[SignatureScheme, ...]
    chain: CertificateChain
    bundle: TrustBundle


class Enrolment:
    """Gets one key per `run` certified for one SPIFFE ID."""

    def __init__(
        self,
        spiffe_id: SpiffeId,
        lifetime: timedelta,
        trust_bundle: Path,
        keys: KeySource,
        token: Token,
        executor: TokenExecutor,
        authority: CertificateAuthority,
    ) -> None:
        self._spiffe_id = spiffe_id
        self._lifetime = lifetime
        self._trust_bundle = trust_bundle
        self._keys = keys
        self._token = token
        self._executor = executor
        self._authority = authority

    async def run(self, now: Callable[[], datetime], generation: int) -> Enrolled:
        """Obtains the key of `generation` and a chain for it.

        Raises what the token or the authority raise, or `CertificateRefused`.

        After a failure or a cancellation the key of this attempt is discarded.
        """
        bundle = self.bundle()
        obtaining = asyncio.ensure_future(self._keys.obtain(generation))
        try:
            # Shielded: a thread that makes a key cannot be stopped, only waited for.
            key = await asyncio.shield(obtaining)
            schemes = await self._executor.run(lambda: tuple(self._token.schemes(key)))
            chain = await self._certify(key, bundle, now)
        except BaseException:
            await self._discard(obtaining)
            raise
        return Enrolled(key, schemes, chain, bundle)

    def bundle(self) -> TrustBundle:
        """The roots as they are in the file now. Raises `CertificateRefused`."""
        # Read anew each time, and never taken from the CA's answer: a root is trusted
        # because it was put into this file.
        try:
            pem = self._trust_bundle.read_bytes()
        except OSError as error:
            raise CertificateRefused(
                f"trust bundle {self._trust_bundle}: {error.strerror}"
            ) from error
        return TrustBundle.parse(self._spiffe_id.trust_domain, pem)

    async def _certify(
        self, key: TokenKey, bundle: TrustBundle, now: Callable[[], datetime]
    ) -> CertificateChain:
        private = token_private_key(
            key.public_key, lambda scheme, message: self._token.sign(key.id, scheme, message)
        )
        csr = await self._executor.run(lambda: build_csr(self._spiffe_id, private))
        answer = await self._authority.sign(csr, self._lifetime)
        return verified_chain(
            answer,
            public_key=key.public_key,
            spiffe_id=self._spiffe_id,
            roots=bundle.roots,
            now=now(),
        )

    async def _discard(self, obtaining: asyncio.Future[TokenKey]) -> None:
        try:
            key = await obtaining
        except MeshkeyError:
            return  # there is no key
        await self._keys.discard(key)
