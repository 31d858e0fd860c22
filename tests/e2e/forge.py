"""A CA that certifies whatever a test wants, and what it made, in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_BACKDATED = timedelta(minutes=2)


@dataclass(frozen=True)
class Credentials:
    """A certificate and a private key, in memory and in PEM files."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey
    chain: Path
    key: Path

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


class Forge:
    """Has a root of its own; `directory` gets the files."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._numbers = count(1)
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.root = (
            _builder(subject, subject, self._key.public_key(), timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage("key_cert_sign"), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def root_pem(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)

    @property
    def root_der(self) -> bytes:
        return self.root.public_bytes(Encoding.DER)

    def certify(
        self,
        *uris: str,
        dns: Sequence[str] = (),
        ca: bool = False,
        usages: Sequence[str] = ("digital_signature",),
        purposes: Sequence[x509.ObjectIdentifier] = BOTH,
        valid_for: timedelta = timedelta(minutes=20),
        valid_from: timedelta = -_BACKDATED,
    ) -> Credentials:
        """A workload's certificate; each argument makes one thing differ from a good one."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
        certificate = (
            _builder(
                x509.Name([]), self.root.subject, key.public_key(), valid_for, start=valid_from
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(_key_usage(*usages), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return self._write(certificate, key)

    def _write(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Credentials:
        stem = f"{self._name}-{next(self._numbers)}"
        chain, key_file = self._directory / f"{stem}.pem", self._directory / f"{stem}-key.pem"
        chain.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Credentials(certificate, key, chain, key_file)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    valid_for: timedelta,
    start: timedelta = -_BACKDATED,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start)
        .not_valid_after(now + valid_for)
    )


def _key_usage(*usages: str) -> x509.KeyUsage:
    known = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{usage: usage in usages for usage in known})
