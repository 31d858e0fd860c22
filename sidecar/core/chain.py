"""Checks on a CA's answer before anyone sees it (RFC 5280 section 6, X.509-SVID section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from sidecar.core.public_key import PublicKey
from sidecar.core.spiffe import SpiffeId
from sidecar.core.unreadable import UNREADABLE
from sidecar.errors import CertificateRefused

_MAX_DEPTH = 4
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
) -> CertificateChain:
    """Checks a CA's `answer` (DER, leaf first) against what was asked for.

    The leaf must hold exactly our key and our SPIFFE ID, be valid at `now`, be no
    CA, be usable on both sides of TLS, and chain to one of the already trusted `roots`.

    Raises:
        CertificateRefused: with the check that failed.
    """
    certificates = _parsed(answer)
    leaf, intermediates = certificates[0], [c for c in certificates[1:] if c not in roots]
    try:
        _check_key(leaf, public_key)
        _check_name(leaf, spiffe_id)
        _check_usage(leaf)
        _check_validity(leaf, now)
        _check_path(leaf, intermediates, roots, now)
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
    try:
        return [x509.load_der_x509_certificate(der) for der in answer]
    except UNREADABLE as error:
        raise CertificateRefused(
            "the CA's answer holds something that is no certificate"
        ) from error


def _check_key(leaf: x509.Certificate, public_key: PublicKey) -> None:
    if leaf.public_key() != public_key:
        raise CertificateRefused("the certificate is for another key than the one in the request")


def _check_name(leaf: x509.Certificate, spiffe_id: SpiffeId) -> None:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise CertificateRefused("the certificate has no SPIFFE ID") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if uris != [str(spiffe_id)]:
        raise CertificateRefused(f"the certificate names {uris}, expected exactly {spiffe_id}")


def _check_usage(leaf: x509.Certificate) -> None:
    _check_key_usage(_extension(leaf, x509.KeyUsage))
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise CertificateRefused("the certificate is a CA certificate; a workload's is not")
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    needed = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    if purposes is not None and not needed <= set(purposes):
        raise CertificateRefused("the certificate's extended key usage lacks server or client auth")


def _check_key_usage(usage: x509.KeyUsage | None) -> None:
    # X509-SVID section 4.3 wants the extension, but cert-manager issues without it what
    # istio-csr asks for (extended usages only). TLS peers take that for "any usage", as
    # RFC 5280 section 4.2.1.3 says; the leaf is still no CA, by its basic constraints.
    if usage is None:
        return
    if not usage.digital_signature:
        raise CertificateRefused("the certificate's key usage lacks digitalSignature")
    if usage.key_cert_sign or usage.crl_sign:
        raise CertificateRefused(
            "the certificate may sign certificates or CRLs; a workload's may not"
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


def _check_path(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime,
) -> None:
    if not roots:
        raise CertificateRefused("there is no trusted root to verify the certificate against")
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(now)
        .max_chain_depth(_MAX_DEPTH)
        .extension_policies(ca_policy=_ca_policy(), ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, list(intermediates))
    except VerificationError as error:
        raise CertificateRefused(f"the chain does not lead to a trusted root: {error}") from error


def _ca_policy() -> ExtensionPolicy:
    # The web PKI's profile asks for extensions that mesh CAs leave out (SKI, AKI), so only
    # what makes a CA a CA is required here.
    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _require_ca)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _require_cert_sign)
    )


def _require_ca(_policy: Policy, _cert: x509.Certificate, value: x509.BasicConstraints) -> None:
    if not value.ca:
        raise ValueError("an issuer is not a CA")


def _require_cert_sign(
    _policy: Policy, _cert: x509.Certificate, value: x509.KeyUsage | None
) -> None:
    if value is not None and not value.key_cert_sign:
        raise ValueError("an issuer's key usage lacks keyCertSign")
