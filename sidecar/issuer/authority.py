"""Issues workload certificates with a CA key that lives in a token. For evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sidecar import whole_file
from sidecar.core.csr import Csr, parse_csr
from sidecar.core.public_key import hash_of
from sidecar.core.schemes import KeyAlgorithm
from sidecar.core.token_key import TokenPrivateKey, certificate_scheme, token_private_key
from sidecar.core.unreadable import UNREADABLE
from sidecar.errors import CsrRefused, MeshkeyError, StartFailed
from sidecar.token.base import Token, TokenKey

_ROOT_LIFETIME = timedelta(days=365)
# Peers whose clocks are a little behind must accept a fresh certificate.
_BACKDATED = timedelta(minutes=2)
_SHORTEST = timedelta(seconds=10)


class LocalIssuer:
    """Signs for every workload of one trust domain; it does not ask who is calling."""

    def __init__(
        self, token: Token, key: TokenKey, root: x509.Certificate, trust_domain: str
    ) -> None:
        self._key = private_key_of(token, key)
        self._root = root
        self._trust_domain = trust_domain

    def issue(
        self, csr: bytes, wished: timedelta, longest: timedelta, now: datetime
    ) -> Sequence[bytes]:
        """Returns DER certificates, leaf first, root last. Blocks on the token.

        Raises:
            CsrRefused: the request is not of the one shape, or for another trust domain.
        """
        request = parse_csr(csr)
        if request.spiffe_id.trust_domain != self._trust_domain:
            raise CsrRefused(f"{request.spiffe_id} is not in trust domain {self._trust_domain}")
        lifetime = max(_SHORTEST, min(wished, longest))
        leaf = self._leaf(request, now - _BACKDATED, now + lifetime)
        return [leaf.public_bytes(Encoding.DER), self._root.public_bytes(Encoding.DER)]

    def _leaf(self, request: Csr, not_before: datetime, not_after: datetime) -> x509.Certificate:
        names = x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier(str(request.spiffe_id))]
        )
        usages = x509.ExtendedKeyUsage(
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        )
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._root.subject)
            .public_key(request.public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(min(not_after, self._root.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(usages, critical=False)
            .add_extension(names, critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hash_of(certificate_scheme(self._key.public_key())))
        )


def private_key_of(token: Token, key: TokenKey) -> TokenPrivateKey:
    """`key` as `cryptography`'s builders want it; its signatures block on the token."""
    return token_private_key(
        key.public_key, lambda scheme, message: token.sign(key.id, scheme, message)
    )


def open_issuer(
    token: Token,
    algorithm: KeyAlgorithm,
    trust_domain: str,
    root_file: Path,
    now: datetime,
) -> LocalIssuer:
    """Takes up the CA whose root is in `root_file`, or founds one and writes that file.

    The root is taken up only if its key is on the token; otherwise a new CA is founded and
    the file replaced. Blocks on the token.

    Raises:
        StartFailed: the file cannot be read or written, or holds something else.
    """
    label = f"meshkey CA {trust_domain}"
    held = token.keys()
    keys = [key for key in held if key.label == label]
    if root := _read(root_file):
        for key in keys:
            if key.public_key == root.public_key() and now < root.not_valid_after_utc:
                return LocalIssuer(token, key, root, trust_domain)
    key = token.generate(algorithm, label)
    try:
        root = _found(token, key, trust_domain, now)
        _write(root_file, root.public_bytes(Encoding.PEM))
    except MeshkeyError:
        token.destroy(key.id)  # or each failing start leaves one more
        raise
    return LocalIssuer(token, key, root, trust_domain)


def _found(token: Token, key: TokenKey, trust_domain: str, now: datetime) -> x509.Certificate:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "meshkey evaluation CA"),
            x509.NameAttribute(NameOID.COMMON_NAME, trust_domain),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key), critical=False)
        .sign(private_key_of(token, key), hash_of(certificate_scheme(key.public_key)))
    )


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _read(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartFailed(f"root file {path}: {error.strerror}") from error
    except UNREADABLE as error:
        raise StartFailed(f"root file {path} holds no certificate; move it away") from error


def _write(path: Path, content: bytes) -> None:
    try:
        # Public, and the sidecars that trust it run as users of their own.
        whole_file.replace(path, content, 0o644)
    except OSError as error:
        raise StartFailed(f"root file {path}: {error.strerror}") from error
