"""How a key pair is made, and what the token must then say of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism
from pkcs11.util.ec import encode_named_curve_parameters

from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import KeyUnsuitable
from sidecar.token.base import KeyId, Origin
from sidecar.token.profiles import TokenProfile
from sidecar.token.report import TokenReport

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
_STAYS = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
# What makes a key's origin `born`: the token itself says that the value never left it.
_BORN = {
    **_STAYS,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
    Attribute.LOCAL: True,
}
_CURVES = {
    KeyAlgorithm.EC_P256: "secp256r1",
    KeyAlgorithm.EC_P384: "secp384r1",
    KeyAlgorithm.EC_P521: "secp521r1",
}
# PrintableString "edwards25519": what tokens of PKCS#11 2.40 know the curve by.
EDWARDS25519 = bytes.fromhex("130c656477617264733235353139")

Templates = tuple[dict[Attribute, bool | None], dict[Attribute, bool | None]]


def templates(profile: TokenProfile) -> Templates:
    """What is asked for, of the public half and of the private one.

    A value of `None` leaves the attribute out.
    """
    return {**_PUBLIC, **profile.public_template}, {**_PRIVATE, **profile.private_template}


def generation_mechanism(algorithm: KeyAlgorithm) -> Mechanism:
    """What `make_key_pair` makes such a key with."""
    if algorithm.rsa_bits:
        return Mechanism.RSA_PKCS_KEY_PAIR_GEN
    if algorithm is KeyAlgorithm.ED25519:
        return Mechanism.EC_EDWARDS_KEY_PAIR_GEN
    return Mechanism.EC_KEY_PAIR_GEN


def make_key_pair(
    session: pkcs11.Session,
    algorithm: KeyAlgorithm,
    wished: Templates,
    *,
    key_id: KeyId,
    label: str,
    store: bool = True,
) -> tuple[pkcs11.PublicKey, pkcs11.PrivateKey]:
    """C_GenerateKeyPair. With `store` off the pair goes with its session."""
    public, private = wished
    options: dict[str, Any] = {
        "id": key_id.value,
        "label": label,
        "store": store,
        "capabilities": None,
        "public_template": public,
        "private_template": private,
    }
    if bits := algorithm.rsa_bits:
        made = session.generate_keypair(KeyType.RSA, bits, **options)
        return made[0], made[1]
    kind, parameters = KeyType.EC_EDWARDS, EDWARDS25519
    if curve := _CURVES.get(algorithm):
        kind, parameters = KeyType.EC, encode_named_curve_parameters(curve)
    domain = session.create_domain_parameters(kind, {Attribute.EC_PARAMS: parameters}, local=True)
    made = domain.generate_keypair(**options)
    return made[0], made[1]


def is_out_of_range(report: TokenReport, algorithm: KeyAlgorithm) -> bool:
    """Whether the token said that it makes no keys of that size."""
    name = generation_mechanism(algorithm).name
    # Some count in bytes, some say 0 for no limit.
    bits = algorithm.rsa_bits or 0
    return any(1024 <= m.largest < bits for m in report.mechanisms if m.name == name)


def require_born(key: pkcs11.PrivateKey) -> None:
    """Reads the attributes back: templates are wishes, this is what the token says.

    Raises:
        KeyUnsuitable: naming the attributes that are not as they must be.
    """
    if wrong := _differences(key, _BORN):
        raise KeyUnsuitable(f"the token made a key that could leave it: {', '.join(wrong)}")


def require_kept(key: pkcs11.PrivateKey) -> None:
    """Like `require_born`, of a key that came from elsewhere and must stay now.

    Raises:
        KeyUnsuitable: naming the attributes that are not as they must be.
    """
    if wrong := _differences(key, _STAYS):
        raise KeyUnsuitable(f"the token would let the key leave again: {', '.join(wrong)}")


def origin_of(key: pkcs11.PrivateKey) -> Origin:
    """Where the key's value has been, by what the token says of it."""
    if not _differences(key, _BORN):
        return Origin.BORN
    return Origin.EXPOSED if _differences(key, _STAYS) else Origin.IMPORTED


def key_id_of(key: pkcs11.PublicKey | pkcs11.PrivateKey) -> KeyId:
    """The CKA_ID of either half."""
    return KeyId(bytes(key[Attribute.ID]))


def label_of(key: pkcs11.PrivateKey) -> str:
    """The CKA_LABEL, which other people's keys may have in any encoding."""
    try:
        return str(key.label)
    except UnicodeDecodeError:
        return "(not UTF-8)"


def _differences(key: pkcs11.PrivateKey, expected: Mapping[Attribute, bool]) -> list[str]:
    found = {attribute: _value(key, attribute) for attribute in expected}
    return [
        f"{attribute.name} {_said(found[attribute])}"
        for attribute, value in expected.items()
        if found[attribute] is not value
    ]


def _said(value: bool | None) -> str:
    return "cannot be read" if value is None else f"is {value}"


def _value(key: pkcs11.PrivateKey, attribute: Attribute) -> bool | None:
    try:
        return bool(key[attribute])
    except (pkcs11.AttributeSensitive, pkcs11.AttributeTypeInvalid):
        return None  # an answer; anything else says that the session or the token is lost
