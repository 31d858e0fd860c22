"""A seal: the audit key's signature under everything that was recorded so far."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.audit.record import canonical
from sidecar.core.public_key import PublicKey, algorithm_of, verify
from sidecar.core.schemes import SignatureScheme

SEAL = "seal"
# What the audit key signs begins with this, and nothing else that meshkey signs does.
_DOMAIN = b"meshkey audit seal v1\n"
# Before the first seal.
NO_SEAL = "0" * 64


@dataclass(frozen=True)
class Seal:
    """What is signed: records `first` to `last`, which end in the chain value `head`."""

    audit_key: str
    first: int
    last: int
    count: int
    head: str
    # The chain value of the record with the seal before this one.
    previous: str

    @classmethod
    def parse(cls, facts: Mapping[str, Any]) -> tuple[Self, bytes]:
        """The seal in a record's facts, and its signature.

        Raises:
            ValueError: that is no seal.
        """
        try:
            seal = cls(
                audit_key=str(facts["audit_key"]),
                first=int(facts["first"]),
                last=int(facts["last"]),
                count=int(facts["count"]),
                head=str(facts["head"]),
                previous=str(facts["previous"]),
            )
            return seal, base64.b64decode(facts["signature"], validate=True)
        except (KeyError, TypeError) as error:
            raise ValueError("that is no seal") from error

    def message(self) -> bytes:
        """What the audit key signs."""
        return _DOMAIN + canonical(asdict(self)).encode()

    def facts(self, signature: bytes) -> dict[str, str | int]:
        """What the record of the seal says."""
        return {**asdict(self), "signature": base64.b64encode(signature).decode()}


def require_signed(seal: Seal, signature: bytes, keys: Mapping[str, PublicKey]) -> None:
    """Checks a seal's signature; `keys` are by `key_hash`.

    Raises:
        ValueError: none of these keys has signed it.
    """
    key = keys.get(seal.audit_key)
    if key is None:
        raise ValueError(f"the seal names audit key {seal.audit_key[:16]}, which was not given")
    try:
        verify(key, seal_scheme(key), signature, seal.message())
    except InvalidSignature:
        raise ValueError("the seal is not signed by the audit key") from None


def seal_scheme(key: PublicKey) -> SignatureScheme:
    """What an audit key signs with.

    Raises:
        ValueError: it is no key of a supported kind.
    """
    if (algorithm := algorithm_of(key)) is None:
        raise ValueError("an audit key is an EC, RSA or Ed25519 key")
    return algorithm.schemes[0]


def key_hash(key: PublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()
