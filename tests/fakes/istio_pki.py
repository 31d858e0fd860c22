"""The certificates behind Istio's CAs, in the shapes that each of them gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.core.public_key import PublicKey
from tests.fixtures import certificates
from tests.fixtures.certificates import BOTH_PURPOSES, Signed

ISTIOD_USAGES = ("digital_signature", "key_encipherment")


def now() -> datetime:
    return datetime.now(UTC)


def _root() -> Signed:
    return certificates.root("mesh root", at=now())


@dataclass
class MeshPki:
    """A root that is nowhere in use but below it: an intermediate that signs for workloads."""

    root: Signed = field(default_factory=_root)
    intermediate: Signed = field(init=False)

    def __post_init__(self) -> None:
        self.intermediate = certificates.intermediate(self.root, "mesh intermediate", at=now())

    def leaf(
        self,
        public_key: PublicKey,
        names: x509.SubjectAlternativeName,
        lifetime: timedelta,
        *,
        usages: tuple[str, ...] = ISTIOD_USAGES,
        backdated: timedelta = timedelta(minutes=2),
        subject: x509.Name | None = None,
    ) -> str:
        """PEM. Without `usages` there is no key usage, as Go leaves out what is empty."""
        at = now()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject or x509.Name([]))
            .issuer_name(self.intermediate.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - backdated)
            .not_valid_after(min(at + lifetime, self.intermediate.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(BOTH_PURPOSES), critical=False)
            .add_extension(names, critical=True)
        )
        if usages:
            builder = builder.add_extension(certificates.key_usage(*usages), critical=True)
        return pem(builder.sign(self.intermediate.key, hashes.SHA256()))


@dataclass
class ServingPki:
    """The CA's own TLS certificate, under a root that no workload's chain leads to."""

    root: Signed = field(default_factory=lambda: certificates.root("serving root", at=now()))

    def certificate(self, *names: str) -> tuple[bytes, bytes]:
        """Private key and certificate, PEM."""
        key = certificates.new_key()
        at = now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - timedelta(hours=1))
            .not_valid_after(at + timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]),
                critical=True,
            )
            .sign(self.root.key, hashes.SHA256())
        )
        private = key.private_bytes(
            Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return private, certificate.public_bytes(Encoding.PEM)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
