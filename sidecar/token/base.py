"""What the rest of meshkey asks of a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.core.schemes import SignatureScheme


class Assurance(Enum):
    """What stands between the key and whoever owns the machine."""

    SOFTWARE = "software"
    HARDWARE = "hardware"


@dataclass(frozen=True)
class KeyId:
    """The CKA_ID that a key pair's two halves share."""

    value: bytes

    def __str__(self) -> str:
        return self.value.hex()


@dataclass(frozen=True)
class TokenKey:
    """A private key in the token, by name; the public half in full."""

    id: KeyId
    label: str
    public_key: ec.EllipticCurvePublicKey


class Token(Protocol):
    """A logged-in token. Safe to use from many threads; every method may block.

    All methods raise `TokenUnavailable` when the token cannot be used now. Each call
    tries to bring a lost token back first, so the first call after its return works.
    """

    @property
    def label(self) -> str: ...

    @property
    def assurance(self) -> Assurance: ...

    @property
    def schemes(self) -> Sequence[SignatureScheme]:
        """What keys made by `generate` sign with, best first."""
        ...

    @property
    def signatures(self) -> int:
        """How many signatures this object has made."""
        ...

    def generate(self, label: str) -> TokenKey:
        """Makes a key pair inside the token and checks what the token says of it.

        Raises:
            KeyUnsuitable: the key could leave the token; it was destroyed.
        """
        ...

    def keys(self) -> list[TokenKey]:
        """The private keys on the token that have their public half beside them."""
        ...

    def sign(self, key_id: KeyId, scheme: SignatureScheme, message: bytes) -> bytes:
        """Signs the whole `message`; returns TLS's encoding (RFC 8446 section 4.2.3).

        Raises:
            NoSuchKey: the token does not hold the key.
        """
        ...

    def destroy(self, key_id: KeyId) -> None:
        """Destroys both halves and verifies by a search that they are gone.

        A key that is not there is as good as destroyed.
        """
        ...

    def close(self) -> None:
        """Logs out. The token cannot be used afterwards."""
        ...
