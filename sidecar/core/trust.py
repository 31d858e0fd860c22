"""Trusted roots, read from PEM (RFC 7468) or taken one by one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.core.unreadable import UNREADABLE
from sidecar.errors import CertificateRefused

_BEGINNING = b"-----BEGIN"
_LABEL = re.compile(_BEGINNING + rb" ([^\r\n]*?)-----")
_UNREADABLE_PEM = "the trust bundle holds no readable PEM certificate, or only a part of one"


@dataclass(frozen=True)
class TrustBundle:
    """The roots of one trust domain: they vouch for that domain's workloads only."""

    trust_domain: str
    roots: tuple[x509.Certificate, ...]

    @classmethod
    def parse(cls, trust_domain: str, pem: bytes) -> TrustBundle:
        """Parses one or more PEM certificates, and nothing else but text between them.

        Raises:
            CertificateRefused: no certificate in it, half of one, one that is no CA, or
                something that has no business there, as a private key.
        """
        _require_certificates_only(pem)
        try:
            roots = x509.load_pem_x509_certificates(pem)
        except UNREADABLE as error:
            raise CertificateRefused(_UNREADABLE_PEM) from error
        # The parser skips what it cannot make out, as half a certificate at the end: a file
        # that is being written would look like a bundle with a root less.
        if len(roots) != pem.count(_BEGINNING):
            raise CertificateRefused(_UNREADABLE_PEM)
        return cls.of(trust_domain, roots)

    @classmethod
    def of(cls, trust_domain: str, roots: Iterable[x509.Certificate]) -> TrustBundle:
        """A bundle of `roots` in their order; one that is there twice counts once.

        Raises:
            CertificateRefused: there is none, or one is no CA.
        """
        different = tuple(dict.fromkeys(roots))
        if not different:
            raise CertificateRefused("the trust bundle is empty")
        for root in different:
            _require_ca(root)
        return cls(trust_domain, different)

    def der(self) -> list[bytes]:
        """The roots as DER certificates."""
        return [root.public_bytes(Encoding.DER) for root in self.roots]


def _require_certificates_only(pem: bytes) -> None:
    labels = {label.decode("ascii", "replace") for label in _LABEL.findall(pem)}
    others = sorted(labels - {"CERTIFICATE"})
    if any("PRIVATE KEY" in label for label in others):
        raise CertificateRefused(
            "a private key lies in the trust bundle, where anyone may read it: take it out, "
            "and replace that key"
        )
    if others:
        raise CertificateRefused(
            f"the trust bundle holds a PEM block {others[0]!r}; it must hold CERTIFICATE only"
        )


def _require_ca(root: x509.Certificate) -> None:
    name = _name(root)
    try:
        constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = _key_usage(root)
    except (x509.ExtensionNotFound, *UNREADABLE) as error:
        raise CertificateRefused(f"root {name!r} is no CA") from error
    if not constraints.ca:
        raise CertificateRefused(f"root {name!r} is no CA")
    if usage is not None and not usage.key_cert_sign:
        raise CertificateRefused(f"root {name!r} is no CA: its key usage lacks keyCertSign")


def _key_usage(root: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return root.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None


def _name(root: x509.Certificate) -> str:
    try:
        return root.subject.rfc4514_string()
    except UNREADABLE:
        return "(unreadable name)"
