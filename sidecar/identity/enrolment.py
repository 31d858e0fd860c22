"""From nothing to a checked certificate: new key, CSR, the CA's answer, the checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sidecar.ca.base import CertificateAuthority
from sidecar.core.chain import CertificateChain, verified_chain
from sidecar.core.csr import build_csr
from sidecar.core.key_label import KeyLabel
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from sidecar.core.spiffe import SpiffeId
from sidecar.core.token_key import token_private_key
from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused, MeshkeyError
from sidecar.identity.destruction import Destruction
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
    """Makes one key pair per `run` and gets it certified for one SPIFFE ID."""

    def __init__(
        self,
        spiffe_id: SpiffeId,
        owner: str,
        algorithm: KeyAlgorithm,
        lifetime: timedelta,
        trust_bundle: Path,
        token: Token,
        executor: TokenExecutor,
        authority: CertificateAuthority,
        destruction: Destruction,
    ) -> None:
        self._spiffe_id = spiffe_id
        self._owner = owner
        self._algorithm = algorithm
        self._lifetime = lifetime
        self._trust_bundle = trust_bundle
        self._token = token
        self._executor = executor
        self._authority = authority
        self._destruction = destruction

    async def run(self, now: Callable[[], datetime], generation: int) -> Enrolled:
        """Makes the key of `generation`, which its label says.

        Raises what the token or the authority raise, or `CertificateRefused`.

        After a failure or a cancellation the key of this attempt is destroyed.
        """
        bundle = self._read_bundle()
        label = str(KeyLabel("tls", self._owner, generation, str(self._spiffe_id)))
        generating = asyncio.ensure_future(
            self._executor.run(lambda: self._token.generate(self._algorithm, label))
        )
        try:
            # Shielded: a thread that makes a key cannot be stopped, only waited for.
            key = await asyncio.shield(generating)
            schemes = await self._executor.run(lambda: tuple(self._token.schemes(key)))
            chain = await self._certify(key, bundle, now)
        except BaseException:
            await self._discard(generating)
            raise
        return Enrolled(key, schemes, chain, bundle)

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

    async def _discard(self, generating: asyncio.Future[TokenKey]) -> None:
        try:
            key = await generating
        except MeshkeyError:
            return  # no key was made
        await self._destruction.destroy(key.id)

    def _read_bundle(self) -> TrustBundle:
        # Read anew each time, and never taken from the CA's answer: a root is trusted
        # because it was put into this file.
        try:
            pem = self._trust_bundle.read_bytes()
        except OSError as error:
            raise CertificateRefused(
                f"trust bundle {self._trust_bundle}: {error.strerror}"
            ) from error
        return TrustBundle.parse(self._spiffe_id.trust_domain, pem)
