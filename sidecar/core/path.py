"""The path from a leaf to a trusted root (RFC 5280 section 6), and why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from sidecar.core.unreadable import UNREADABLE
from sidecar.errors import CertificateRefused

_MAX_DEPTH = 4


def verified_path(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime,
) -> list[x509.Certificate]:
    """The certificates from `leaf` to one of `roots`, both among them.

    Signatures, names, dates, path lengths and that issuers are CAs are checked; an unknown
    critical extension anywhere is refused. So is a CA with name constraints on URIs, whether
    or not they fit: `cryptography` does not know them, and X509-SVID section 4.2 lets
    libraries refuse them. So is a root with an Ed25519 key, which it does not know either.

    Raises:
        CertificateRefused: with the reason, as far as it can be told.
    """
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
        return list(verifier.verify(leaf, list(intermediates)).chain)
    except VerificationError as error:
        reason = _expiry(leaf, intermediates, roots, now) or (
            f"{error}; if this CA is to be trusted, its root belongs where ours are read from"
        )
        raise CertificateRefused(f"the chain does not lead to a trusted root: {reason}") from error


def _expiry(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime,
) -> str:
    """The issuer that is not valid now, in words; empty if that is not the reason."""
    issued = [leaf, *intermediates]
    for kind, issuers in (("root", roots), ("intermediate", intermediates)):
        for issuer in issuers:
            if issuer.not_valid_before_utc <= now < issuer.not_valid_after_utc:
                continue
            if any(_is_issued(certificate, issuer) for certificate in issued):
                return (
                    f"the {kind} {issuer.subject.rfc4514_string()!r} is valid from "
                    f"{_time(issuer.not_valid_before_utc)} to "
                    f"{_time(issuer.not_valid_after_utc)}, it is {_time(now)} here"
                )
    return ""


def _is_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except UNREADABLE:
        return False
    return True


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


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
