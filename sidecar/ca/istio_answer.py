"""Reads the answer of Istio's certificate service."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import DecodeError

from sidecar._proto.third_party import istio_ca_pb2
from sidecar.ca.pem import certificates
from sidecar.errors import AuthorityError

# A leaf, a few intermediates and the roots of one trust domain. More would make the search
# for a path through them long.
_MAX_CERTIFICATES = 32

NO_SUCH_CA = "ca.address must be that of istiod or istio-csr"


def certificates_in(answer: bytes, name: str) -> list[bytes]:
    """DER certificates of a serialized `CertificateResponse`, in its order: leaf first.

    Istiod before 1.26 puts the leaf and its intermediates into one element, and the last one
    has every root that the CA knows of: any element may be several certificates.

    Raises:
        AuthorityError: it is no such message, or not a leaf and a root at least. It begins
            with the authority's `name`.
    """
    try:
        elements = list(istio_ca_pb2.CertificateResponse.FromString(answer).cert_chain)
    except DecodeError as error:
        raise AuthorityError(f"{name}: its answer cannot be decoded; {NO_SUCH_CA}") from error
    if len(elements) < 2:
        raise AuthorityError(
            f"{name}: its answer has {len(elements)} elements, and a leaf and a root are expected; "
            f"{NO_SUCH_CA}"
        )
    chain = [der for element in elements for der in _parsed(element, name)]
    if len(chain) > _MAX_CERTIFICATES:
        raise AuthorityError(
            f"{name}: its answer has {len(chain)} certificates, more than {_MAX_CERTIFICATES}; "
            "let it have fewer roots"
        )
    return chain


def _parsed(element: str, name: str) -> list[bytes]:
    try:
        return [
            certificate.public_bytes(Encoding.DER) for certificate in certificates(element.encode())
        ]
    except ValueError as error:
        raise AuthorityError(
            f"{name}: its answer holds something that is no PEM certificate; {NO_SUCH_CA}"
        ) from error
