"""How a token is asked for a signature of each scheme (PKCS#11 v2.40 and 3.0, section 2)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import MGF, Mechanism

from sidecar.core.schemes import SignatureScheme
from sidecar.token.calls import MechanismStructure, mechanism_structure

# DER of DigestInfo up to the digest (RFC 8017 section 9.2, note 1).
_DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
_SALT = {"sha256": 32, "sha384": 48, "sha512": 64}


@dataclass(frozen=True)
class Way:
    """One mechanism that makes signatures of one scheme, with its parameter."""

    scheme: SignatureScheme
    mechanism: Mechanism
    parameter: Any = None
    hashed_outside: bool = False
    prefix: bytes = b""

    @property
    def given(self) -> str:
        """What the token is given to sign, in words."""
        return "hashed outside" if self.hashed_outside else "whole"

    @cached_property
    def _hash(self) -> Callable[[bytes], hashlib._Hash]:
        assert self.scheme.hash_name
        made: Callable[[bytes], hashlib._Hash] = getattr(hashlib, self.scheme.hash_name)
        return made

    @cached_property
    def _is_ecdsa(self) -> bool:
        return self.scheme.name.startswith("ECDSA")

    @cached_property
    def structure(self) -> MechanismStructure:
        """As the module takes it."""
        return mechanism_structure(self.mechanism, *(self.parameter or ()))

    def input(self, message: bytes) -> bytes:
        """What the token is given for `message`."""
        if not self.hashed_outside:
            return message
        return self.prefix + self._hash(message).digest()

    def encode(self, raw: bytes) -> bytes:
        """The token's answer in TLS's encoding: ECDSA's r || s becomes DER."""
        if not self._is_ecdsa:
            return raw
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


def ways(scheme: SignatureScheme) -> tuple[Way, ...]:
    """All ways to a signature of `scheme`, best first.

    Hashing outside comes first: every token can do it, and it takes one call for any length.
    """
    name = scheme.hash_name
    if name is None:
        return (Way(scheme, Mechanism.EDDSA),)
    upper = name.upper()
    if not scheme.is_rsa:
        return (
            Way(scheme, Mechanism.ECDSA, hashed_outside=True),
            Way(scheme, Mechanism[f"ECDSA_{upper}"]),
        )
    if scheme.is_pkcs1:
        prefix = _DIGEST_INFO[name]
        return (
            Way(scheme, Mechanism.RSA_PKCS, hashed_outside=True, prefix=prefix),
            Way(scheme, Mechanism[f"{upper}_RSA_PKCS"]),
        )
    parameter = (Mechanism[upper], MGF[upper], _SALT[name])
    return (
        Way(scheme, Mechanism.RSA_PKCS_PSS, parameter, hashed_outside=True),
        Way(scheme, Mechanism[f"{upper}_RSA_PKCS_PSS"], parameter),
    )
