"""Certificates in PEM, all or nothing."""

from __future__ import annotations

from cryptography import x509

from sidecar.core.unreadable import UNREADABLE


def certificates(pem: bytes) -> list[x509.Certificate]:
    """Parses one or more; text between them is left out.

    Raises:
        ValueError: none, one that cannot be read or has no end, or another thing in PEM.
    """
    try:
        found = x509.load_pem_x509_certificates(pem)
    except UNREADABLE as error:
        raise ValueError("no readable certificate") from error
    # The parser passes over what begins and does not end, as a half written file does.
    if len(found) != pem.count(b"-----BEGIN "):
        raise ValueError("something else than certificates")
    return found
