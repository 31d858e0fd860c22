"""Ephemeral keys: those that an honest peer makes, and no others."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.core.ecdh_parameters import _X25519_LOW_ORDER, EcdhParameters, NamedCurve
from sidecar.core.tls_bytes import Reader

PRIME = {NamedCurve.SECP256R1: ec.SECP256R1(), NamedCurve.SECP384R1: ec.SECP384R1()}
FIELD_PRIME = {
    NamedCurve.SECP256R1: 2**256 - 2**224 + 2**192 + 2**96 - 1,
    NamedCurve.SECP384R1: 2**384 - 2**128 - 2**96 + 2**32 - 1,
}


def public(curve: NamedCurve, form: PublicFormat = PublicFormat.UncompressedPoint) -> bytes:
    if curve is NamedCurve.X25519:
        return X25519PrivateKey.generate().public_key().public_bytes_raw()
    key = ec.generate_private_key(PRIME[curve]).public_key()
    return key.public_bytes(Encoding.X962, form)


def parameters(point: bytes, curve: int, kind: int = 3) -> bytes:
    return bytes([kind]) + curve.to_bytes(2) + bytes([len(point)]) + point


def _read(wire: bytes) -> EcdhParameters:
    reader = Reader(wire, "parameters")
    read = EcdhParameters.read(reader)
    reader.end()
    return read


@pytest.mark.parametrize("curve", NamedCurve)
def test_keys_of_every_curve_are_read_and_written_alike(curve: NamedCurve) -> None:
    for _ in range(20):
        wire = parameters(public(curve), curve.value)
        read = _read(wire)
        assert (read.public.curve, read.encode()) == (curve, wire)


@pytest.mark.parametrize("kind", [0, 1, 2, 4, 255])
def test_a_curve_that_is_not_named_is_refused(kind: int) -> None:
    with pytest.raises(ValueError, match="not a named one"):
        _read(parameters(public(NamedCurve.SECP256R1), 23, kind))


@pytest.mark.parametrize("curve", [0, 19, 22, 25, 26, 28, 30, 256, 0x1700, 0x11EC, 0xFF01, 0xFFFF])
def test_other_curves_are_refused(curve: int) -> None:
    with pytest.raises(ValueError, match=f"curve {curve} is not served; use one of secp256r1, "):
        _read(parameters(public(NamedCurve.SECP256R1), curve))


@pytest.mark.parametrize("curve", PRIME)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda point: b"\x02" + point[1:33], id="compressed"),
        pytest.param(lambda point: b"\x02" + point[1:], id="called compressed"),
        pytest.param(lambda point: b"\x06" + point[1:], id="hybrid, even"),
        pytest.param(lambda point: b"\x07" + point[1:], id="hybrid, odd"),
        pytest.param(lambda _: b"\x00", id="infinity"),
        pytest.param(lambda point: bytes(len(point)), id="infinity, padded"),
        pytest.param(lambda point: point[:-1], id="short"),
        pytest.param(lambda point: point + b"\0", id="long"),
        pytest.param(lambda point: point[1:], id="without its form"),
    ],
)
def test_a_point_in_another_form_is_refused(curve: NamedCurve, change: object) -> None:
    assert callable(change)
    with pytest.raises(ValueError, match="no uncompressed point"):
        _read(parameters(change(public(curve)), curve.value))


def test_a_compressed_point_as_its_library_writes_it_is_refused() -> None:
    for curve in PRIME:
        point = public(curve, PublicFormat.CompressedPoint)
        with pytest.raises(ValueError, match="no uncompressed point"):
            _read(parameters(point, curve.value))


@pytest.mark.parametrize("curve", PRIME)
def test_a_point_off_the_curve_is_refused_for_every_bit_changed(curve: NamedCurve) -> None:
    point = public(curve)
    for bit in range(8, len(point) * 8):
        changed = bytearray(point)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=f"is not on {curve.name.lower()}$"):
            _read(parameters(bytes(changed), curve.value))


@pytest.mark.parametrize("curve", PRIME)
def test_a_coordinate_beyond_the_field_is_refused(curve: NamedCurve) -> None:
    # On each of these curves x = 0 has a point; p + 0 is the same x, written otherwise.
    p, size = FIELD_PRIME[curve], PRIME[curve].key_size // 8
    on_curve = ec.EllipticCurvePublicKey.from_encoded_point(PRIME[curve], b"\x02" + bytes(size))
    y = on_curve.public_numbers().y.to_bytes(size)
    assert _read(parameters(b"\x04" + bytes(size) + y, curve.value))
    with pytest.raises(ValueError, match="is not on"):
        _read(parameters(b"\x04" + p.to_bytes(size) + y, curve.value))


@pytest.mark.parametrize("u", sorted(_X25519_LOW_ORDER))
def test_x25519_points_of_low_order_are_refused(u: int) -> None:
    point = u.to_bytes(32, "little")
    # The library agrees that they are: the secret that they lead to is zero.
    with pytest.raises(ValueError, match="shared key"):
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(point))
    with pytest.raises(ValueError, match="low order"):
        _read(parameters(point, NamedCurve.X25519.value))


@pytest.mark.parametrize("u", [2**255 - 19, 2**255 - 18, 2**255 - 1, 2**255 + 9, 2**256 - 1])
def test_x25519_points_that_are_not_reduced_are_refused(u: int) -> None:
    with pytest.raises(ValueError, match="below the prime"):
        _read(parameters(u.to_bytes(32, "little"), NamedCurve.X25519.value))


@pytest.mark.parametrize("length", [1, 31, 33, 64, 65])
def test_x25519_points_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="of 32 bytes"):
        _read(parameters(bytes([9]) + bytes(length - 1), NamedCurve.X25519.value))


@pytest.mark.parametrize("curve", NamedCurve)
def test_an_empty_point_is_refused(curve: NamedCurve) -> None:
    with pytest.raises(ValueError, match="a list of 0 bytes, at least 1"):
        _read(parameters(b"", curve.value))


def test_one_curves_point_is_refused_on_another() -> None:
    for curve in NamedCurve:
        for other in set(NamedCurve) - {curve}:
            with pytest.raises(ValueError, match="the public key is"):
                _read(parameters(public(curve), other.value))
