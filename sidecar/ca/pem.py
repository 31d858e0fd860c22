"""Requests and chains as people and other programs exchange them: PEM."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Sequence

from cryptography import x509

from sidecar.core.unreadable import UNREADABLE

MAX_CHAIN = 1 << 20
_BEGIN = b"-----BEGIN "


def request_pem(csr: bytes) -> bytes:
    """A DER request in PEM (RFC 7468 section 7), whatever it holds."""
    body = "\n".join(textwrap.wrap(base64.b64encode(csr).decode("ascii"), 64))
    return (
        f"-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n".encode(
            "ascii"
        )
    )


def parse_chain(pem: bytes) -> Sequence[x509.Certificate]:
    """The certificates in `pem`; empty if it is no chain, or not all of it is there."""
    try:
        chain = x509.load_pem_x509_certificates(pem)
    except UNREADABLE:
        return []
    # The parser skips a block whose end is missing, and what is no certificate.
    return chain if len(chain) == pem.count(_BEGIN) else []
