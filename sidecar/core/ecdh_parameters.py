"""An ephemeral ECDH key as TLS 1.2 sends it (RFC 8422 sections 5.4 and 5.7)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.core.tls_bytes import Reader, vector

# RFC 8422 section 5.4: explicit curves (1 and 2) are deprecated.
_NAMED_CURVE = 3
_UNCOMPRESSED = 4
_X25519_PRIME = 2**255 - 19
# The canonical u-coordinates whose shared secret is zero for every private key: RFC 7748
# section 6.1 and the orders 1, 2, 4 and 8 of https://cr.yp.to/ecdh.html#validate.
_X25519_LOW_ORDER = frozenset(
    {
        0,
        1,
        _X25519_PRIME - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)


class NamedCurve(Enum):
    """IANA code points of the curves on which an ephemeral key may be."""

    SECP256R1 = 23
    SECP384R1 = 24
    X25519 = 29


_PRIME_CURVES: dict[NamedCurve, ec.EllipticCurve] = {
    NamedCurve.SECP256R1: ec.SECP256R1(),
    NamedCurve.SECP384R1: ec.SECP384R1(),
}


@dataclass(frozen=True)
class EcPoint:
    """A public key that is on its curve."""

    curve: NamedCurve
    encoded: bytes

    @classmethod
    def read(cls, reader: Reader, curve: NamedCurve) -> EcPoint:
        """An ECPoint (RFC 8422 section 5.4): a length of one byte and the point.

        Raises:
            ValueError: no honest peer makes such a key on that curve.
        """
        encoded = reader.vector(1, least=1)
        if curve is NamedCurve.X25519:
            _check_x25519(encoded)
        else:
            _check_prime(encoded, _PRIME_CURVES[curve])
        return cls(curve, encoded)

    def encode(self) -> bytes:
        return vector(self.encoded, 1)


@dataclass(frozen=True)
class EcdhParameters:
    """ServerECDHParams: a named curve and a public key on it."""

    public: EcPoint

    @classmethod
    def read(cls, reader: Reader) -> EcdhParameters:
        """Takes the parameters from `reader`, which may hold more.

        Raises:
            ValueError: with the part that is wrong.
        """
        if reader.number(1) != _NAMED_CURVE:
            raise ValueError("the curve is not a named one (RFC 8422 section 5.4)")
        code = reader.number(2)
        try:
            curve = NamedCurve(code)
        except ValueError:
            known = ", ".join(each.name.lower() for each in NamedCurve)
            raise ValueError(f"curve {code} is not served; use one of {known}") from None
        return cls(EcPoint.read(reader, curve))

    def encode(self) -> bytes:
        """36, 69 or 101 bytes."""
        curve = self.public.curve.value.to_bytes(2)
        return bytes([_NAMED_CURVE]) + curve + self.public.encode()


def _check_prime(encoded: bytes, curve: ec.EllipticCurve) -> None:
    coordinate = (curve.key_size + 7) // 8
    # RFC 8422 section 5.4.1: compressed points are deprecated, and infinity is no key.
    if len(encoded) != 1 + 2 * coordinate or encoded[0] != _UNCOMPRESSED:
        raise ValueError(f"the public key is no uncompressed point of {curve.name}")
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(curve, encoded)
    except ValueError:
        # Its own text is left out: it is the library's, not about the message.
        raise ValueError(f"the public key is not on {curve.name}") from None


def _check_x25519(encoded: bytes) -> None:
    # Every 32 bytes are a key to who receives them (RFC 7748 section 5), but who makes a key
    # sends u reduced, and never of low order: RFC 8422 section 5.11 has the peer end such a
    # handshake, so a signature over it serves nobody.
    u = int.from_bytes(encoded, "little")
    if len(encoded) != 32 or u >= _X25519_PRIME:
        raise ValueError("the public key is no x25519 u-coordinate of 32 bytes below the prime")
    if u in _X25519_LOW_ORDER:
        raise ValueError("the public key is an x25519 point of low order")
