"""How a key pair is made, and what the token must then say of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import pkcs11
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11 import Attribute, KeyType
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

from sidecar.errors import KeyUnsuitable
from sidecar.token.base import KeyId
from sidecar.token.profiles import TokenProfile

# A key of ours signs and does nothing else; it was made here and stays here.
_PUBLIC = {
    Attribute.VERIFY: True,
    Attribute.ENCRYPT: False,
    Attribute.WRAP: False,
}
_PRIVATE = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.SIGN: True,
    Attribute.DECRYPT: False,
    Attribute.DERIVE: False,
    Attribute.UNWRAP: False,
}
# What makes a key's origin `born`: the token itself says that the value never left it.
_BORN = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
    Attribute.LOCAL: True,
}


def make_key_pair(
    session: pkcs11.Session, profile: TokenProfile, label: str
) -> tuple[pkcs11.PublicKey, pkcs11.PrivateKey]:
    """C_GenerateKeyPair of a P-256 key with a fresh random CKA_ID of 16 bytes."""
    parameters = session.create_domain_parameters(
        KeyType.EC,
        {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
        local=True,
    )
    public, private = parameters.generate_keypair(
        id=secrets.token_bytes(16),
        label=label,
        store=True,
        capabilities=None,
        public_template=_merged(_PUBLIC, profile.public_template),
        private_template=_merged(_PRIVATE, profile.private_template),
    )
    return public, private


def require_born(key: pkcs11.PrivateKey) -> None:
    """Reads the attributes back: templates are wishes, this is what the token says.

    Raises:
        KeyUnsuitable: naming the attributes that are not as they must be.
    """
    wrong = [
        name
        for attribute, expected in _BORN.items()
        if (name := _differs(key, attribute, expected))
    ]
    if wrong:
        raise KeyUnsuitable(f"the token made a key that could leave it: {', '.join(wrong)}")


def public_key_of(key: pkcs11.PublicKey) -> ec.EllipticCurvePublicKey | None:
    """The public half, from CKA_EC_PARAMS and CKA_EC_POINT; `None` for an unknown curve."""
    try:
        public_key = load_der_public_key(encode_ec_public_key(key))
    except (ValueError, UnsupportedAlgorithm):
        return None
    return public_key if isinstance(public_key, ec.EllipticCurvePublicKey) else None


def require_public_key(key: pkcs11.PublicKey) -> ec.EllipticCurvePublicKey:
    """Like `public_key_of`, for a key that was just made.

    Raises:
        KeyUnsuitable: it cannot be read.
    """
    public_key = public_key_of(key)
    if public_key is None:
        raise KeyUnsuitable("the token made a key whose public half cannot be read")
    return public_key


def key_id_of(key: pkcs11.PublicKey | pkcs11.PrivateKey) -> KeyId:
    """The CKA_ID of either half."""
    return KeyId(bytes(key[Attribute.ID]))


def _differs(key: pkcs11.PrivateKey, attribute: Attribute, expected: bool) -> str | None:
    try:
        actual = key[attribute]
    except pkcs11.PKCS11Error:
        return f"{attribute.name} cannot be read"
    return None if actual is expected else f"{attribute.name} is {actual}"


def _merged(
    base: Mapping[Attribute, bool], extra: Mapping[Attribute, bool | None]
) -> dict[Attribute, bool]:
    merged = {**base, **extra}
    return {attribute: value for attribute, value in merged.items() if value is not None}
