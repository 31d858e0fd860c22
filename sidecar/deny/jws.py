"""A deny list's signature: a JWS in compact serialization (RFC 7515 section 7.1).

Loaded only where a deny list is configured, made or shown.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import InvalidSignatureError, PyJWTError
from jwt.api_jws import PyJWS

from sidecar.core.deny_list import MOST_BYTES, DenyList, json_object
from sidecar.core.public_key import PublicKey, algorithm_of
from sidecar.core.schemes import KeyAlgorithm
from sidecar.core.token_key import TokenPrivateKey
from sidecar.core.unreadable import UNREADABLE
from sidecar.errors import DenyListRefused

_TYPE = "meshkey-deny+jws"
_RSA = ("PS256", "PS384", "PS512", "RS256", "RS384", "RS512")
# What a key of each kind signs with (RFC 7518 section 3.1, RFC 8037 section 3.1), best first.
# A key signs with nothing else, whatever a header says: never "none", never a MAC.
_ALGORITHMS: Mapping[KeyAlgorithm, tuple[str, ...]] = {
    KeyAlgorithm.EC_P256: ("ES256",),
    KeyAlgorithm.EC_P384: ("ES384",),
    KeyAlgorithm.ED25519: ("EdDSA",),
    KeyAlgorithm.RSA_2048: _RSA,
    KeyAlgorithm.RSA_3072: _RSA,
    KeyAlgorithm.RSA_4096: _RSA,
}
_KNOWN = frozenset(each for possible in _ALGORITHMS.values() for each in possible)
_WRONG_KEY = "a deny list is signed with an EC P-256 or P-384, Ed25519 or RSA key"
_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_PEM = re.compile(rb"-----BEGIN ([^\r\n]*?)-----.*?-----END \1-----", re.DOTALL)


def verified(signed: bytes, keys: Iterable[PublicKey]) -> DenyList:
    """The deny list that one of `keys` has signed. One newline may follow it.

    Raises:
        DenyListRefused: it is too long or no such JWS, none of them has signed it, or what is
            signed is no deny list.
    """
    if len(signed) > MOST_BYTES:
        raise DenyListRefused(f"the deny list is larger than {MOST_BYTES} bytes")
    compact = signed.removesuffix(b"\n")
    found = _COMPACT.fullmatch(compact)
    if not found:
        raise DenyListRefused(
            "that is no JWS in compact serialization; make one with: meshkey deny-list sign"
        )
    algorithm = _algorithm(found[1])
    for key in keys:
        if algorithm not in _algorithms_of(key):
            continue
        try:
            return DenyList.parse(PyJWS().decode(compact, key, algorithms=[algorithm]))
        except InvalidSignatureError:
            continue
        except PyJWTError as error:
            raise DenyListRefused("the deny list's JWS cannot be read") from error
    raise DenyListRefused(
        f"none of the keys has signed the deny list with {algorithm}; "
        "sign it with one of them, or put its signer's among them"
    )


def signed_list(deny_list: DenyList, key: TokenPrivateKey) -> str:
    """The JWS; `key` signs it, in the token.

    Raises what the token raises, and `DenyListRefused` for a key that cannot sign one.
    """
    possible = _algorithms_of(key.public_key())
    if not possible:
        raise DenyListRefused(_WRONG_KEY)
    # PyJWT turns ECDSA's DER into r || s (RFC 7518 section 3.4).
    return PyJWS().encode(deny_list.encode(), key, possible[0], {"typ": _TYPE})


def public_keys(pem: bytes) -> list[PublicKey]:
    """One or more SubjectPublicKeyInfo, PEM (RFC 7468 section 13), and nothing else.

    Raises:
        DenyListRefused: none is in there, or something that cannot have signed a deny list.
    """
    keys = [_public_key(block[0], block[1]) for block in _PEM.finditer(pem)]
    if not keys or len(keys) != pem.count(b"-----BEGIN"):
        raise DenyListRefused("no public key, PEM, is in there, or only a part of one")
    return keys


def _public_key(block: bytes, label: bytes) -> PublicKey:
    if b"PRIVATE KEY" in label:
        raise DenyListRefused(
            "a private key lies where public keys belong: take it out, and replace that key"
        )
    if label != b"PUBLIC KEY":
        raise DenyListRefused(f"a PEM block {label.decode('ascii', 'replace')!r} is no PUBLIC KEY")
    try:
        key = load_pem_public_key(block)
    except UNREADABLE as error:
        raise DenyListRefused("a public key in there cannot be read") from error
    if not isinstance(key, PublicKey) or not _algorithms_of(key):
        raise DenyListRefused(_WRONG_KEY)
    return key


def _algorithms_of(key: PublicKey) -> tuple[str, ...]:
    algorithm = algorithm_of(key)
    return _ALGORITHMS.get(algorithm, ()) if algorithm else ()


def _algorithm(encoded: bytes) -> str:
    """The "alg" of a header that has it and "typ", and nothing that changes what is signed."""
    try:
        header = json_object(
            base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)), "the JWS's header"
        )
    except ValueError as error:
        raise DenyListRefused("the JWS's header is not in base64url") from error
    if header.keys() != {"alg", "typ"}:
        raise DenyListRefused("the JWS's header must have exactly alg and typ")
    if header["typ"] != _TYPE:
        raise DenyListRefused(f"the JWS's typ is not {_TYPE}: it was signed as something else")
    algorithm = header["alg"]
    if not isinstance(algorithm, str) or algorithm not in _KNOWN:
        raise DenyListRefused("the JWS's alg is none that a deny list is signed with")
    return algorithm
