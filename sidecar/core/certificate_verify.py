"""The content that a TLS 1.3 CertificateVerify signs (RFC 8446 section 4.4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

_PADDING = b"\x20" * 64
# The hash of the cipher suite, not of the signature scheme, sets the length:
# 32 for SHA-256 suites, 48 for TLS_AES_256_GCM_SHA384.
_TRANSCRIPT_HASH_BYTES = (32, 48)


class Side(Enum):
    """Who proves its identity; the value is the context string on the wire."""

    SERVER = b"TLS 1.3, server CertificateVerify"
    CLIENT = b"TLS 1.3, client CertificateVerify"


@dataclass(frozen=True)
class CertificateVerifyContent:
    """64 spaces, the context string of one side, a zero byte, a transcript hash."""

    side: Side
    transcript_hash: bytes

    @classmethod
    def parse(cls, message: bytes, side: Side) -> CertificateVerifyContent:
        """Accepts `message` only if it is exactly that structure for `side`.

        Raises:
            ValueError: with the part that differs; never with bytes of the message.
        """
        prefix = _PADDING + side.value + b"\x00"
        if not message.startswith(prefix):
            raise ValueError(_difference(message, side))
        transcript_hash = message[len(prefix) :]
        if len(transcript_hash) not in _TRANSCRIPT_HASH_BYTES:
            raise ValueError(
                f"the transcript hash has {len(transcript_hash)} bytes; "
                "32 (SHA-256) or 48 (SHA-384) are possible"
            )
        return cls(side, transcript_hash)

    def encode(self) -> bytes:
        """130 or 146 bytes."""
        return _PADDING + self.side.value + b"\x00" + self.transcript_hash


def _difference(message: bytes, side: Side) -> str:
    if not message.startswith(_PADDING):
        return "the message does not start with 64 spaces: it is no TLS 1.3 CertificateVerify"
    if any(message[64:].startswith(other.value + b"\x00") for other in Side if other != side):
        return f"the context string is the other side's, not the {side.name.lower()}'s"
    return f"the context string is not {side.value.decode()!r} and a zero byte"
