"""Trusted roots, read from PEM."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.core.unreadable import UNREADABLE
from sidecar.errors import CertificateRefused


@dataclass(frozen=True)
class TrustBundle:
    """The roots of one trust domain: they vouch for that domain's workloads only."""

    trust_domain: str
    roots: tuple[x509.Certificate, ...]

    @classmethod
    def parse(cls, trust_domain: str, pem: bytes) -> TrustBundle:
        """Parses one or more PEM certificates.

        Raises:
            CertificateRefused: no certificate in it, or one that is no CA.
        """
        try:
            roots = tuple(x509.load_pem_x509_certificates(pem))
        except UNREADABLE as error:
            raise CertificateRefused(
                "the trust bundle holds no readable PEM certificate"
            ) from error
        for root in roots:
            _require_ca(root)
        return cls(trust_domain, roots)

    def union(self, other: TrustBundle) -> TrustBundle:
        """With the roots of `other` that are not in this one after its own."""
        added = tuple(root for root in other.roots if root not in self.roots)
        return TrustBundle(self.trust_domain, self.roots + added)

    def der(self) -> list[bytes]:
        """The roots as DER certificates."""
        return [root.public_bytes(Encoding.DER) for root in self.roots]


def _require_ca(root: x509.Certificate) -> None:
    try:
        constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, *UNREADABLE) as error:
        raise CertificateRefused(f"root {root.subject.rfc4514_string()!r} is no CA") from error
    if not constraints.ca:
        raise CertificateRefused(f"root {root.subject.rfc4514_string()!r} is no CA")
