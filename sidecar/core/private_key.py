"""Private keys that come from outside, for the short while until a token has them."""

from __future__ import annotations

from typing import TypeAlias, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
)

from sidecar.core.public_key import algorithm_of
from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import KeyRefused, PassphraseMissing

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

_UNREADABLE = (ValueError, UnsupportedAlgorithm)


def parse_private_key(content: bytes, passphrase: bytes | None = None) -> PrivateKey:
    """Reads PKCS#8 (RFC 5958), PEM or DER; a passphrase for a key without one is ignored.

    Raises:
        PassphraseMissing: it is encrypted, and there is no passphrase.
        KeyRefused: it is no private key, of no kind that a mesh uses, or the passphrase is
            wrong. Nothing of the content is in the message.
    """
    try:
        key = _load(content, None)
    except TypeError:
        key = _decrypted(content, passphrase)
    except _UNREADABLE:
        raise KeyRefused("that is no private key; PKCS#8 is needed, as PEM or DER") from None
    if not hasattr(key, "public_key") or algorithm_of(key.public_key()) is None:
        known = ", ".join(algorithm.value for algorithm in KeyAlgorithm)
        raise KeyRefused(f"the private key is of no kind that is used here: {known}")
    return cast("PrivateKey", key)


def _decrypted(content: bytes, passphrase: bytes | None) -> object:
    if not passphrase:
        raise PassphraseMissing("the private key is encrypted: --passphrase-file names its file")
    try:
        return _load(content, passphrase)
    except _UNREADABLE:
        # Not the error itself: nobody knows what of the key it shows.
        raise KeyRefused(
            "the private key cannot be decrypted: the passphrase is wrong, or its kind of "
            "encryption is not known"
        ) from None


def _load(content: bytes, passphrase: bytes | None) -> object:
    load = load_pem_private_key if b"-----BEGIN" in content else load_der_private_key
    return load(content, passphrase)
