"""Key pairs as the attributes of PKCS#11 objects (v2.40 sections 2.1.2, 2.1.3 and 2.3.3)."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pkcs11 import Attribute, KeyType
from pkcs11.util.ec import encode_named_curve_parameters

from sidecar.core.private_key import PrivateKey
from sidecar.core.public_key import PublicKey
from sidecar.token.keypair import EDWARDS25519

_Attributes = dict[Attribute, Any]
_OCTET_STRING = 4
_SHORT = 0x80


def key_type_of(public_key: PublicKey) -> KeyType:
    """CKA_KEY_TYPE of both halves."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return KeyType.RSA
    return KeyType.EC if isinstance(public_key, ec.EllipticCurvePublicKey) else KeyType.EC_EDWARDS


def public_value(public_key: PublicKey) -> _Attributes:
    """What a public half is."""
    if isinstance(public_key, rsa.RSAPublicKey):
        numbers = public_key.public_numbers()
        return {
            Attribute.MODULUS: _octets(numbers.n),
            Attribute.PUBLIC_EXPONENT: _octets(numbers.e),
        }
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        point = public_key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
    else:
        point = public_key.public_bytes_raw()
    return {**_curve(public_key), Attribute.EC_POINT: _octet_string(point)}


def private_value(private_key: PrivateKey) -> _Attributes:
    """What a private half is. Handle with care."""
    if isinstance(private_key, rsa.RSAPrivateKey):
        return _rsa(private_key.private_numbers())
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        number = private_key.private_numbers().private_value
        value = number.to_bytes((private_key.key_size + 7) // 8)
    else:
        value = private_key.private_bytes_raw()
    return {**_curve(private_key.public_key()), Attribute.VALUE: value}


def _curve(public_key: PublicKey) -> _Attributes:
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return {Attribute.EC_PARAMS: encode_named_curve_parameters(public_key.curve.name)}
    return {Attribute.EC_PARAMS: EDWARDS25519}


def _rsa(numbers: rsa.RSAPrivateNumbers) -> _Attributes:
    return {
        Attribute.MODULUS: _octets(numbers.public_numbers.n),
        Attribute.PUBLIC_EXPONENT: _octets(numbers.public_numbers.e),
        Attribute.PRIVATE_EXPONENT: _octets(numbers.d),
        Attribute.PRIME_1: _octets(numbers.p),
        Attribute.PRIME_2: _octets(numbers.q),
        Attribute.EXPONENT_1: _octets(numbers.dmp1),
        Attribute.EXPONENT_2: _octets(numbers.dmq1),
        Attribute.COEFFICIENT: _octets(numbers.iqmp),
    }


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _octet_string(content: bytes) -> bytes:
    """DER: a point of P-521 is the only one that needs the long form of the length."""
    length = len(content)
    head = [length] if length < _SHORT else [_SHORT | 1, length]
    return bytes([_OCTET_STRING, *head]) + content
