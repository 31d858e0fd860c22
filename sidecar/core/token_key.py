"""Private keys for `cryptography`'s builders whose signatures are made elsewhere.

Each looks like a private key of its kind to the CSR and certificate builders. `sign`
forwards the whole message with its scheme; every way to the private value raises `TypeError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from sidecar.core.public_key import PublicKey, algorithm_of, hash_of
from sidecar.core.schemes import SignatureScheme

# Takes a scheme and the whole message, returns TLS's encoding.
Sign: TypeAlias = Callable[[SignatureScheme, bytes], bytes]
_Data: TypeAlias = bytes | bytearray | memoryview


class _NeverLeaves:
    """What every key in a token has in common: nothing of it comes out."""

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> NoReturn:
        raise TypeError("the private value never leaves the token")

    def private_bytes_raw(self) -> NoReturn:
        raise TypeError("the private value never leaves the token")

    def private_numbers(self) -> NoReturn:
        raise TypeError("the private value never leaves the token")

    def exchange(self, algorithm: object, peer_public_key: object) -> NoReturn:
        raise TypeError("a token key signs; it does not agree on keys")

    def decrypt(self, ciphertext: bytes, padding: object) -> NoReturn:
        raise TypeError("a token key signs; it does not decrypt")


class TokenEcKey(_NeverLeaves, ec.EllipticCurvePrivateKey):
    """An EC key; ECDSA with the hash of its curve's scheme only."""

    def __init__(self, public_key: ec.EllipticCurvePublicKey, sign: Sign) -> None:
        self._public_key = public_key
        self._sign = sign

    def sign(self, data: _Data, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        scheme = _only_scheme(self._public_key)
        _require_hash(scheme, signature_algorithm.algorithm)
        return self._sign(scheme, bytes(data))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def __copy__(self) -> TokenEcKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> TokenEcKey:
        return self


class TokenRsaKey(_NeverLeaves, rsa.RSAPrivateKey):
    """An RSA key; PKCS#1 v1.5, or PSS with a salt as long as the hash."""

    def __init__(self, public_key: rsa.RSAPublicKey, sign: Sign) -> None:
        self._public_key = public_key
        self._sign = sign

    def sign(
        self,
        data: _Data,
        padding: padding.AsymmetricPadding,
        algorithm: object,
    ) -> bytes:
        return self._sign(_rsa_scheme(padding, algorithm), bytes(data))

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public_key

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def __copy__(self) -> TokenRsaKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> TokenRsaKey:
        return self


class TokenEd25519Key(_NeverLeaves, ed25519.Ed25519PrivateKey):
    """An Ed25519 key."""

    def __init__(self, public_key: ed25519.Ed25519PublicKey, sign: Sign) -> None:
        self._public_key = public_key
        self._sign = sign

    def sign(self, data: _Data) -> bytes:
        return self._sign(SignatureScheme.ED25519, bytes(data))

    def public_key(self) -> ed25519.Ed25519PublicKey:
        return self._public_key

    def __copy__(self) -> TokenEd25519Key:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> TokenEd25519Key:
        return self


TokenPrivateKey: TypeAlias = TokenEcKey | TokenRsaKey | TokenEd25519Key


def token_private_key(public_key: PublicKey, sign: Sign) -> TokenPrivateKey:
    """The private key beside `public_key`; its signatures are made by `sign`."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return TokenEcKey(public_key, sign)
    if isinstance(public_key, rsa.RSAPublicKey):
        return TokenRsaKey(public_key, sign)
    return TokenEd25519Key(public_key, sign)


def certificate_scheme(public_key: PublicKey) -> SignatureScheme:
    """What a key signs CSRs and certificates with: what every verifier reads."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return SignatureScheme.RSA_PKCS1_SHA256
    return _only_scheme(public_key)


def _only_scheme(public_key: PublicKey) -> SignatureScheme:
    algorithm = algorithm_of(public_key)
    if algorithm is None:
        raise TypeError("a mesh uses no keys of this kind")
    return algorithm.schemes[0]


def _require_hash(scheme: SignatureScheme, algorithm: object) -> None:
    expected = hash_of(scheme)
    assert expected is not None
    if not isinstance(algorithm, type(expected)):
        raise TypeError(f"this token key signs whole messages with {expected.name} only")


def _rsa_scheme(used: padding.AsymmetricPadding, algorithm: object) -> SignatureScheme:
    if isinstance(algorithm, hashes.HashAlgorithm) and _salt_fits(used, algorithm):
        kind = "PKCS1" if isinstance(used, padding.PKCS1v15) else "PSS_RSAE"
        name = f"RSA_{kind}_{algorithm.name.upper()}"
        if name in SignatureScheme.__members__:
            return SignatureScheme[name]
    raise TypeError(
        "an RSA token key signs whole messages with SHA-256, SHA-384 or SHA-512, "
        "and with PSS uses a salt as long as the hash"
    )


def _salt_fits(used: padding.AsymmetricPadding, algorithm: hashes.HashAlgorithm) -> bool:
    if not isinstance(used, padding.PSS):
        return isinstance(used, padding.PKCS1v15)
    return used._salt_length in {padding.PSS.DIGEST_LENGTH, algorithm.digest_size}
