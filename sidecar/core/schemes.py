"""Key algorithms and TLS signature schemes (IANA registry, RFC 8446 section 4.2.3)."""

from __future__ import annotations

from enum import Enum, IntEnum


class SignatureScheme(IntEnum):
    """IANA code points of the schemes that meshkey signs with."""

    RSA_PKCS1_SHA256 = 0x0401
    ECDSA_SECP256R1_SHA256 = 0x0403
    RSA_PKCS1_SHA384 = 0x0501
    ECDSA_SECP384R1_SHA384 = 0x0503
    RSA_PKCS1_SHA512 = 0x0601
    ECDSA_SECP521R1_SHA512 = 0x0603
    RSA_PSS_RSAE_SHA256 = 0x0804
    RSA_PSS_RSAE_SHA384 = 0x0805
    RSA_PSS_RSAE_SHA512 = 0x0806
    ED25519 = 0x0807

    @property
    def is_rsa(self) -> bool:
        return self.name.startswith("RSA")

    @property
    def is_pkcs1(self) -> bool:
        """RSASSA-PKCS1-v1_5: for certificates and TLS 1.2, never for TLS 1.3 handshakes."""
        return self.name.startswith("RSA_PKCS1")

    @property
    def hash_name(self) -> str | None:
        """As `hashlib` spells it; `None` where the scheme takes the whole message."""
        return None if self is SignatureScheme.ED25519 else f"sha{self.name[-3:]}"


_RSA = (
    SignatureScheme.RSA_PSS_RSAE_SHA256,
    SignatureScheme.RSA_PSS_RSAE_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA512,
    SignatureScheme.RSA_PKCS1_SHA256,
    SignatureScheme.RSA_PKCS1_SHA384,
    SignatureScheme.RSA_PKCS1_SHA512,
)


class KeyAlgorithm(Enum):
    """What a key pair is; the value is its name in settings."""

    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    EC_P521 = "ec-p521"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    ED25519 = "ed25519"

    @property
    def schemes(self) -> tuple[SignatureScheme, ...]:
        """All that a key of this kind could sign with, best first."""
        match self:
            case KeyAlgorithm.EC_P256:
                return (SignatureScheme.ECDSA_SECP256R1_SHA256,)
            case KeyAlgorithm.EC_P384:
                return (SignatureScheme.ECDSA_SECP384R1_SHA384,)
            case KeyAlgorithm.EC_P521:
                return (SignatureScheme.ECDSA_SECP521R1_SHA512,)
            case KeyAlgorithm.ED25519:
                return (SignatureScheme.ED25519,)
            case _:
                return _RSA

    @property
    def rsa_bits(self) -> int | None:
        """The size of an RSA modulus; `None` for other keys."""
        return int(self.value[4:]) if self.value.startswith("rsa-") else None
