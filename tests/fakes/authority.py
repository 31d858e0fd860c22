"""A certificate authority in this process, for tests of what asks one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sidecar.core.csr import parse_csr
from sidecar.errors import AuthorityError, AuthorityUnavailable, CsrRefused
from tests.fixtures import certificates
from tests.fixtures.certificates import Signed


class FakeAuthority:
    """`CertificateAuthority` for one trust domain."""

    def __init__(self, trust_domain: str, now: Callable[[], datetime]) -> None:
        self.root: Signed = certificates.root(at=now())
        self._trust_domain = trust_domain
        self._now = now
        # Raised, one a call, before anything is signed.
        self.failures: list[Exception] = []
        # Replaces the answer.
        self.tamper: Callable[[list[bytes]], list[bytes]] = list
        self.available = True
        self.requests: list[tuple[bytes, timedelta]] = []
        # Clear it and calls wait until it is set.
        self.open = asyncio.Event()
        self.open.set()

    async def sign(self, csr: bytes, lifetime: timedelta) -> Sequence[bytes]:
        self.requests.append((csr, lifetime))
        await self.open.wait()
        if not self.available:
            raise AuthorityUnavailable("fake CA: gone")
        if self.failures:
            raise self.failures.pop(0)
        return self.tamper([certificates.der(self._leaf(csr, lifetime)), self.root.der])

    def _leaf(self, csr: bytes, lifetime: timedelta) -> x509.Certificate:
        try:
            request = parse_csr(csr)
        except CsrRefused as error:
            raise AuthorityError(f"fake CA: {error}") from error
        if request.spiffe_id.trust_domain != self._trust_domain:
            raise AuthorityError("fake CA: another trust domain")
        now = self._now()
        uri = x509.UniformResourceIdentifier(str(request.spiffe_id))
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.certificate.subject)
            .public_key(request.public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=2))
            .not_valid_after(now + lifetime)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
            .add_extension(certificates.key_usage("digital_signature"), critical=True)
            .sign(self.root.key, hashes.SHA256())
        )
