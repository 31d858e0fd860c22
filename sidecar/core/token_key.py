"""A private key for `cryptography`'s builders whose signatures are made elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed


class TokenPrivateKey(ec.EllipticCurvePrivateKey):
    """Looks like an EC private key to the CSR and certificate builders of `cryptography`.

    `sign` forwards the whole message to `signature(message)`, which returns a DER
    ECDSA-Sig-Value over its SHA-256. Every way to the private value raises `TypeError`.
    """

    def __init__(
        self, public_key: ec.EllipticCurvePublicKey, signature: Callable[[bytes], bytes]
    ) -> None:
        self._public_key = public_key
        self._signature = signature

    def sign(
        self,
        data: bytes | bytearray | memoryview,
        signature_algorithm: ec.EllipticCurveSignatureAlgorithm,
    ) -> bytes:
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, Prehashed) or not isinstance(algorithm, hashes.SHA256):
            raise TypeError("a token key signs whole messages with SHA-256 only")
        return self._signature(bytes(data))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        raise TypeError("a token key signs; it does not agree on keys")

    def private_numbers(self) -> NoReturn:
        raise TypeError("the private value never leaves the token")

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> NoReturn:
        raise TypeError("the private value never leaves the token")

    def __copy__(self) -> TokenPrivateKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> TokenPrivateKey:
        return self
