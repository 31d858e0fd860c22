"""Public halves as tokens give them."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import Attribute, KeyType
from pkcs11.util.ec import encode_named_curve_parameters

from sidecar.token.public_half import public_key_of


class _Half(dict[Attribute, Any]):
    key_type = KeyType.EC


def _half(key: ec.EllipticCurvePublicKey, point: bytes) -> Any:
    parameters = encode_named_curve_parameters(key.curve.name)
    return _Half({Attribute.EC_PARAMS: parameters, Attribute.EC_POINT: point})


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _octet_string(octets: bytes) -> bytes:
    length = [len(octets)] if len(octets) < 128 else [0x81, len(octets)]
    return bytes([4, *length]) + octets


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_point_is_read_as_it_is_and_in_an_octet_string(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve).public_key()
    point = _point(key)
    assert public_key_of(_half(key, point)) == key
    assert public_key_of(_half(key, _octet_string(point))) == key


def test_the_length_that_tpm2_pkcs11_writes_wrongly_is_not_guessed_at() -> None:
    key = ec.generate_private_key(ec.SECP521R1()).public_key()
    # 133 octets need a length of two; the module cannot use such a key itself.
    assert public_key_of(_half(key, b"\x04\x85" + _point(key))) is None


def test_a_point_off_the_curve_is_no_key() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = bytearray(_point(key))
    point[-1] ^= 1
    assert public_key_of(_half(key, bytes(point))) is None
