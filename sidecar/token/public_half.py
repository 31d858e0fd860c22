"""Reads public halves out of a token."""

from __future__ import annotations

import pkcs11
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11 import Attribute, KeyType
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

from sidecar.core.public_key import PublicKey, algorithm_of
from sidecar.errors import KeyUnsuitable

_ED25519_OCTETS = 32
_CURVES: dict[bytes, ec.EllipticCurve] = {
    encode_named_curve_parameters(curve.name): curve
    for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
}


def public_key_of(key: pkcs11.PublicKey) -> PublicKey | None:
    """The public half in full; `None` for one of a kind that a mesh does not use."""
    try:
        match key.key_type:
            case KeyType.RSA:
                public: object = _rsa(key)
            case KeyType.EC_EDWARDS:
                public = _ed25519(key)
            case KeyType.EC:
                public = _ec(key)
            case _:
                return None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return public if isinstance(public, PublicKey) and algorithm_of(public) else None


def require_public_key(key: pkcs11.PublicKey) -> PublicKey:
    """Like `public_key_of`, for a key that was just made.

    Raises:
        KeyUnsuitable: it cannot be read.
    """
    public_key = public_key_of(key)
    if public_key is None:
        raise KeyUnsuitable("the token made a key whose public half cannot be read")
    return public_key


def _rsa(key: pkcs11.PublicKey) -> rsa.RSAPublicKey:
    modulus = int.from_bytes(bytes(key[Attribute.MODULUS]))
    exponent = int.from_bytes(bytes(key[Attribute.PUBLIC_EXPONENT]))
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _ec(key: pkcs11.PublicKey) -> object:
    # PKCS#11 wants the point in an OCTET STRING; Kryoptic gives it as it is unless told.
    point = bytes(key[Attribute.EC_POINT])
    curve = _CURVES.get(bytes(key[Attribute.EC_PARAMS]))
    if curve and len(point) == 1 + 2 * ((curve.key_size + 7) // 8):
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    return load_der_public_key(encode_ec_public_key(key))


def _ed25519(key: pkcs11.PublicKey) -> ed25519.Ed25519PublicKey:
    # Some tokens wrap the point into an OCTET STRING, as for other curves, some do not.
    point = bytes(key[Attribute.EC_POINT])
    return ed25519.Ed25519PublicKey.from_public_bytes(point[-_ED25519_OCTETS:])
