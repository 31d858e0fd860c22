"""How public keys look as JSON Web Keys (RFC 7518 section 6, RFC 8037 section 2)."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# By "kty": what only the private key has.
PRIVATE_MEMBERS = {
    "EC": frozenset({"d"}),
    "OKP": frozenset({"d"}),
    "RSA": frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"}),
    "oct": frozenset({"k"}),
}
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def public_members(key: object) -> dict[str, str]:
    """The members that describe a public key; only "kty" is not enough to tell two apart.

    Raises:
        ValueError: it is of a kind that certificates of a mesh do not have.
    """
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
    if isinstance(key, ed25519.Ed25519PublicKey):
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": _text(raw)}
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        point = key.public_numbers()
        # Coordinates are as long as the field (RFC 7518 section 6.2.1.2).
        size = (key.key_size + 7) // 8
        x, y = (_text(value.to_bytes(size)) for value in (point.x, point.y))
        return {"kty": "EC", "crv": _CURVES[key.curve.name], "x": x, "y": y}
    raise ValueError("no RSA, EC or Ed25519 key")


def _number(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
