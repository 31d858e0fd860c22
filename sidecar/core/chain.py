"""Checks on a CA's answer before anyone sees it (RFC 5280 section 6, X.509-SVID section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from sidecar.core.certificate_verify import Side
from sidecar.core.path import verified_path
from sidecar.core.public_key import PublicKey
from sidecar.core.spiffe import SpiffeId
from sidecar.core.unreadable import UNREADABLE
from sidecar.errors import CertificateRefused

# More than any CA sends, and less than a TLS handshake takes: rustls ends one whose
# Certificate message has 64 KiB.
_MOST_CERTIFICATES = 10
_MOST_BYTES = 60 * 1024
# A CA's clock may be ahead of ours.
_CLOCK_SKEW = timedelta(minutes=5)
_PURPOSES = {
    Side.SERVER: ("server auth", ExtendedKeyUsageOID.SERVER_AUTH),
    Side.CLIENT: ("client auth", ExtendedKeyUsageOID.CLIENT_AUTH),
}
# What istiod gives at most (MAX_WORKLOAD_CERT_TTL).
LONGEST_LEAF = timedelta(days=90)
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True)
class CertificateChain:
    """A verified chain: DER certificates, leaf first, without the root."""

    certificates: tuple[bytes, ...]
    serial: str
    not_before: datetime
    not_after: datetime


def verified_chain(
    answer: Sequence[bytes],
    *,
    public_key: PublicKey,
    spiffe_id: SpiffeId,
    roots: Sequence[x509.Certificate],
    now: datetime,
    sides: frozenset[Side] = frozenset(Side),
    least_left: timedelta = timedelta(seconds=1),
    longest: timedelta = LONGEST_LEAF,
) -> CertificateChain:
    """Checks a CA's `answer` (DER, leaf first) against what was asked for.

    The leaf must hold exactly our key and our SPIFFE ID, be valid at `now`, for `least_left`
    to come and for no more than `longest`, be no CA, be usable on those `sides` of TLS, and
    chain to one of the already trusted `roots`, which are those of its trust domain alone.

    Raises:
        CertificateRefused: with the check that failed.
    """
    certificates = _parsed(answer)
    leaf, intermediates = certificates[0], [c for c in certificates[1:] if c not in roots]
    try:
        _check_key(leaf, public_key)
        _check_name(leaf, spiffe_id)
        _check_usage(leaf)
        _check_purposes("certificate", leaf, sides)
        _check_validity(leaf, now)
        _check_lifetime(leaf, now, least_left, longest)
        for issuer in verified_path(leaf, intermediates, roots, now)[1:]:
            _check_purposes(f"issuer {issuer.subject.rfc4514_string()!r}", issuer, sides)
    except UNREADABLE as error:
        raise CertificateRefused("the certificate cannot be read in full") from error
    return CertificateChain(
        certificates=tuple(c.public_bytes(Encoding.DER) for c in [leaf, *intermediates]),
        serial=f"{leaf.serial_number:x}",
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def _parsed(answer: Sequence[bytes]) -> list[x509.Certificate]:
    if not answer:
        raise CertificateRefused("the CA answered without a certificate")
    # Before anything is parsed: a hostile answer costs a look at its length.
    if len(answer) > _MOST_CERTIFICATES:
        raise CertificateRefused(
            f"the CA answered with {len(answer)} certificates, and at most "
            f"{_MOST_CERTIFICATES} are read"
        )
    if (size := sum(map(len, answer))) > _MOST_BYTES:
        raise CertificateRefused(
            f"the CA's answer has {size} bytes, and at most {_MOST_BYTES} fit into a handshake"
        )
    try:
        return [x509.load_der_x509_certificate(der) for der in answer]
    except UNREADABLE as error:
        raise CertificateRefused(
            "the CA's answer holds something that is no certificate"
        ) from error


def _check_key(leaf: x509.Certificate, public_key: PublicKey) -> None:
    if leaf.public_key() != public_key:
        raise CertificateRefused(
            "the certificate is for another key than the one in the request: whatever stands "
            "between here and the CA must not keep or mix up answers"
        )


def _check_name(leaf: x509.Certificate, spiffe_id: SpiffeId) -> None:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise CertificateRefused(
            f"the certificate has no SPIFFE ID: let the CA take {spiffe_id} from the request"
        ) from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if uris != [str(spiffe_id)]:
        raise CertificateRefused(
            f"the certificate names {uris}, expected exactly {spiffe_id}: "
            "set spiffe_id to what the CA gives this workload, or let it give what is set"
        )


def _check_usage(leaf: x509.Certificate) -> None:
    _check_key_usage(_extension(leaf, x509.KeyUsage))
    if _is_ca(leaf):
        raise CertificateRefused(
            "the certificate is a CA certificate: let the CA use its profile for workloads"
        )


def _check_purposes(name: str, certificate: x509.Certificate, sides: frozenset[Side]) -> None:
    # An issuer's extended key usage bounds its leaves' for Go and OpenSSL, so peers on those
    # would refuse what we could use (X509-SVID section 4.4 warns of it).
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if purposes is None:
        return
    unbounded = _is_ca(certificate) and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in purposes
    needed = [_PURPOSES[side] for side in Side if side in sides]
    missing = [text for text, purpose in needed if purpose not in purposes]
    if missing and not unbounded:
        raise CertificateRefused(
            f"the {name} has an extended key usage that lacks {' and '.join(missing)}: "
            "let the CA add it"
        )


def _is_ca(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _check_key_usage(usage: x509.KeyUsage | None) -> None:
    # X509-SVID section 4.3 wants the extension, but cert-manager issues without it what
    # istio-csr asks for (extended usages only). TLS peers take that for "any usage", as
    # RFC 5280 section 4.2.1.3 says; the leaf is still no CA, by its basic constraints.
    if usage is None:
        return
    if not usage.digital_signature:
        raise CertificateRefused(
            "the certificate's key usage lacks digitalSignature: let the CA add it"
        )
    if usage.key_cert_sign or usage.crl_sign:
        raise CertificateRefused(
            "the certificate may sign certificates or CRLs: let the CA use its profile for "
            "workloads"
        )


def _extension(leaf: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return leaf.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _check_validity(leaf: x509.Certificate, now: datetime) -> None:
    if now < leaf.not_valid_before_utc:
        raise CertificateRefused(
            f"the certificate is valid from {leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}, "
            f"it is {now:%Y-%m-%dT%H:%M:%SZ} here: compare the clocks"
        )
    if now >= leaf.not_valid_after_utc:
        raise CertificateRefused(
            f"the certificate expired {leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}, "
            f"it is {now:%Y-%m-%dT%H:%M:%SZ} here: compare the clocks"
        )


def _check_lifetime(
    leaf: x509.Certificate, now: datetime, least_left: timedelta, longest: timedelta
) -> None:
    # Counted from now, as CAs backdate not_before. The wish is no bound: a CA may ignore it
    # (istiod gives 24 hours to whoever does not ask in its way), and to refuse what it gives
    # would leave us without any. But a leaf for years is a mistake, or somebody's plan to
    # outlive a revocation.
    left = leaf.not_valid_after_utc - now
    if left < least_left:
        raise CertificateRefused(
            f"the certificate is valid for {left} more, and at least {least_left} is needed: "
            "let the CA give longer lifetimes, or compare the clocks"
        )
    if left > longest + _CLOCK_SKEW:
        raise CertificateRefused(
            f"the certificate is valid for {left} more, and at most {longest} is allowed: "
            "let the CA give shorter lifetimes"
        )
