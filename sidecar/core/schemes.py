"""TLS signature schemes (IANA registry, RFC 8446 section 4.2.3)."""

from __future__ import annotations

from enum import IntEnum


class SignatureScheme(IntEnum):
    """IANA code points of the schemes that meshkey signs with."""

    ECDSA_SECP256R1_SHA256 = 0x0403

    @property
    def is_rsa(self) -> bool:
        return False
