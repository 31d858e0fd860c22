"""Public keys of who issues tokens: a JWK Set (RFC 7517)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sidecar.core.json_web_key import PRIVATE_MEMBERS

# RFC 7518 section 3.3.
_LEAST_RSA_BITS = 2048

IssuerKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
_KINDS = (ec.EllipticCurvePublicKey, rsa.RSAPublicKey, ed25519.Ed25519PublicKey)

# By "kty" and "crv": RFC 7518 section 3.1, RFC 8037 section 3.1. A key that signs has two halves
# in all of them: who can verify a token cannot make one.
_ALGORITHMS = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
}


@dataclass(frozen=True)
class VerificationKey:
    """One key, and the algorithms that it may be used with, as "alg" names them."""

    key: IssuerKey
    algorithms: tuple[str, ...]


def parse_key_set(document: bytes) -> Mapping[str, VerificationKey]:
    """The keys of a JWK Set that verify signatures, by their "kid".

    Keys of another type, curve or use, and those without a "kid", are passed over.

    Raises:
        ValueError: it is no such document, has no usable key, two of one name, a weak one, or
            one that should be nowhere but with who issues the tokens.
    """
    found: dict[str, VerificationKey] = {}
    for members in _members(document):
        if _is_secret(members):
            raise ValueError(
                "a private or secret key lies in it, where anyone may read it: take it out, "
                "and replace that key"
            )
        name, algorithms = members.get("kid"), _algorithms(members)
        if not algorithms or not isinstance(name, str) or not name:
            continue
        if name in found:
            raise ValueError(f"two of its keys have the kid {name!r}: which one counts?")
        found[name] = VerificationKey(_key(members, name, algorithms[0]), algorithms)
    if not found:
        raise ValueError(
            "it has no key with a kid that verifies signatures: RSA, P-256, P-384 or Ed25519"
        )
    return found


def _members(document: bytes) -> list[dict[str, object]]:
    try:
        parsed: object = json.loads(document.decode())
    except (ValueError, RecursionError):
        raise ValueError("it is no readable JSON") from None
    keys: object = parsed.get("keys") if _is_object(parsed) else None
    if not isinstance(keys, list) or not all(_is_object(each) for each in keys):
        raise ValueError('it is no JWK Set: an object with a list "keys" of objects')
    return keys


def _is_secret(members: Mapping[str, object]) -> bool:
    kind = members.get("kty")
    return isinstance(kind, str) and bool(PRIVATE_MEMBERS.get(kind, frozenset()) & members.keys())


def _algorithms(members: Mapping[str, object]) -> tuple[str, ...]:
    kind, curve = members.get("kty"), members.get("crv")
    operations = members.get("key_ops", ["verify"])
    if members.get("use", "sig") != "sig":
        return ()
    if not isinstance(operations, list) or "verify" not in operations:
        return ()
    if not isinstance(kind, str) or not (curve is None or isinstance(curve, str)):
        return ()
    possible = _ALGORITHMS.get((kind, curve), ())
    only = members.get("alg")
    return possible if only is None else tuple(each for each in possible if each == only)


def _key(members: dict[str, object], name: str, algorithm: str) -> IssuerKey:
    try:
        key: object = jwt.PyJWK(members, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        raise ValueError(f"its key {name!r} cannot be read") from None
    if not isinstance(key, _KINDS):
        raise ValueError(  # noqa: TRY004  # what is wrong is the file
            f"its key {name!r} is of another kind than it says"
        )
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        raise ValueError(f"its key {name!r} has fewer than {_LEAST_RSA_BITS} bits")
    return key


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)
