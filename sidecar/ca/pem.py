"""Requests and chains as people and other programs exchange them: PEM."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Sequence

from cryptography import x509

from sidecar.core.unreadable import UNREADABLE

MAX_CHAIN = 1 << 20


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


def parse_chain(pem: bytes) -> Sequence[x509.Certificate]:
    """The certificates in `pem`; empty if it is no chain, or not all of it is there."""
    try:
        return certificates(pem)
    except ValueError:
        return []


def request_pem(csr: bytes) -> bytes:
    """A DER request in PEM (RFC 7468 section 7), whatever it holds."""
    body = "\n".join(textwrap.wrap(base64.b64encode(csr).decode("ascii"), 64))
    return (
        f"-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n".encode(
            "ascii"
        )
    )
