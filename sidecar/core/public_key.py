"""Public halves of every kind, and whether a signature is theirs."""

from __future__ import annotations

from typing import TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from sidecar.core.schemes import KeyAlgorithm, SignatureScheme

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
Hash: TypeAlias = hashes.SHA256 | hashes.SHA384 | hashes.SHA512

_CURVES = {
    "secp256r1": KeyAlgorithm.EC_P256,
    "secp384r1": KeyAlgorithm.EC_P384,
    "secp521r1": KeyAlgorithm.EC_P521,
}
_RSA_SIZES = {2048: KeyAlgorithm.RSA_2048, 3072: KeyAlgorithm.RSA_3072, 4096: KeyAlgorithm.RSA_4096}
_HASHES: dict[str, Hash] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


def algorithm_of(key: object) -> KeyAlgorithm | None:
    """The algorithm of a public key; `None` for one that a mesh does not use."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name)
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA_SIZES.get(key.key_size)
    return KeyAlgorithm.ED25519 if isinstance(key, ed25519.Ed25519PublicKey) else None


def hash_of(scheme: SignatureScheme) -> Hash | None:
    """The scheme's hash for `cryptography`; `None` for Ed25519, which has its own."""
    return _HASHES[scheme.hash_name] if scheme.hash_name else None


def rsa_padding(scheme: SignatureScheme) -> padding.AsymmetricPadding:
    """The padding of an RSA scheme; a PSS salt is as long as the hash (RFC 8446 4.2.3)."""
    if scheme.is_pkcs1:
        return padding.PKCS1v15()
    algorithm = hash_of(scheme)
    assert algorithm is not None
    return padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)


def verify(key: PublicKey, scheme: SignatureScheme, signature: bytes, message: bytes) -> None:
    """Checks a signature in TLS's encoding over the whole `message`.

    Raises:
        InvalidSignature: it is not this key's (from `cryptography`).
    """
    algorithm = hash_of(scheme)
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, message)
    elif isinstance(key, rsa.RSAPublicKey):
        assert algorithm is not None
        key.verify(signature, message, rsa_padding(scheme), algorithm)
    else:
        assert algorithm is not None
        key.verify(signature, message, ec.ECDSA(algorithm))
