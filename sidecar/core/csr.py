"""The one shape of CSR that every mesh CA signs.

An empty subject and one critical subject alternative name with one URI, the
SPIFFE ID; nothing else (SPIFFE X.509-SVID section 2, RFC 5280 section 4.2.1.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sidecar.core.private_key import PrivateKey
from sidecar.core.public_key import PublicKey, algorithm_of, hash_of
from sidecar.core.schemes import KeyAlgorithm
from sidecar.core.spiffe import SpiffeId
from sidecar.core.token_key import certificate_scheme
from sidecar.core.unreadable import UNREADABLE
from sidecar.errors import CsrRefused


@dataclass(frozen=True)
class Csr:
    """A checked request: its key signed it, and it asks for this identity only."""

    spiffe_id: SpiffeId
    public_key: PublicKey


def build_csr(spiffe_id: SpiffeId, key: PrivateKey) -> bytes:
    """Returns the DER request for `spiffe_id`, signed by `key` (a token key blocks)."""
    request = build_request([x509.UniformResourceIdentifier(str(spiffe_id))], key)
    return request.public_bytes(serialization.Encoding.DER)


def build_request(
    names: Sequence[x509.GeneralName], key: PrivateKey
) -> x509.CertificateSigningRequest:
    """An empty subject and `names` as the critical subject alternative name."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(key, hash_of(certificate_scheme(key.public_key())))
    )


def parse_csr(der: bytes) -> Csr:
    """Accepts what `build_csr` builds and nothing wider.

    Raises:
        CsrRefused: with the rule that the request breaks.
    """
    try:
        request = x509.load_der_x509_csr(der)
        return Csr(_only_spiffe_id(request), _proven_key(request))
    except UNREADABLE as error:
        raise CsrRefused(f"the request cannot be read: {type(error).__name__}") from error


def _only_spiffe_id(request: x509.CertificateSigningRequest) -> SpiffeId:
    if len(request.subject):
        raise CsrRefused("the subject is not empty; ask for an identity by SAN URI only")
    extensions = list(request.extensions)
    if len(extensions) != 1 or not isinstance(extensions[0].value, x509.SubjectAlternativeName):
        raise CsrRefused("exactly one extension, the subject alternative name, may be asked for")
    if not extensions[0].critical:
        raise CsrRefused("the subject alternative name is not critical, with an empty subject")
    names = list(extensions[0].value)
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise CsrRefused("exactly one name, a URI, may be asked for")
    try:
        return SpiffeId.parse(names[0].value)
    except ValueError as error:
        raise CsrRefused(str(error)) from error


def _proven_key(request: x509.CertificateSigningRequest) -> PublicKey:
    public_key = request.public_key()
    if algorithm_of(public_key) is None:
        known = ", ".join(algorithm.value for algorithm in KeyAlgorithm)
        raise CsrRefused(f"the key is of no kind that is certified here: {known}")
    assert isinstance(public_key, PublicKey)
    if not request.is_signature_valid:
        raise CsrRefused("the request is not signed by the key that it names")
    return public_key
