"""What the rest of meshkey asks of a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from sidecar.core.private_key import PrivateKey
from sidecar.core.public_key import PublicKey
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from sidecar.token.report import TokenReport


class Assurance(Enum):
    """What stands between the key and whoever owns the machine."""

    SOFTWARE = "software"
    HARDWARE = "hardware"


class Origin(Enum):
    """Where a key's value has been, by what the token says of it."""

    # Made in the token, and never anywhere else.
    BORN = "born"
    # Cannot leave the token, and was somewhere else before.
    IMPORTED = "imported"
    # Could leave the token: never used.
    EXPOSED = "exposed"


@dataclass(frozen=True)
class KeyId:
    """The CKA_ID that a key pair's two halves share."""

    value: bytes

    def __str__(self) -> str:
        return self.value.hex()

    def __hash__(self) -> int:
        # Several times for each signature; the one that a dataclass gets takes twice as long.
        return hash(self.value)


@dataclass(frozen=True)
class TokenKey:
    """A private key in the token, by name; the public half in full."""

    id: KeyId
    label: str
    public_key: PublicKey
    origin: Origin


class ImportWay(Enum):
    """How a key from outside got into the token."""

    # Encrypted for the token, which decrypted it inside.
    WRAPPED = "wrapped"
    # As it is, through the module's interface: the token unwraps no such keys.
    CREATED = "created"


@dataclass(frozen=True)
class ImportedKey:
    """A key that is in the token now."""

    key: TokenKey
    way: ImportWay


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
    def concurrency(self) -> int:
        """How many threads may use the token at once."""
        ...

    @property
    def report(self) -> TokenReport:
        """What the token said of itself when it was opened."""
        ...

    @property
    def signatures(self) -> int:
        """How many signatures this object has made."""
        ...

    def generate(self, algorithm: KeyAlgorithm, label: str) -> TokenKey:
        """Makes a key pair inside the token and checks what the token says of it.

        Raises:
            KeyUnsuitable: the key could leave the token; it was destroyed.
            MechanismMissing: the token makes no such keys.
            TokenFull: there is no room for another key.
        """
        ...

    def labels(self) -> dict[KeyId, str]:
        """The labels of all private keys, of those without a public half too."""
        ...

    def schemes(self, key: TokenKey) -> Sequence[SignatureScheme]:
        """What the token was seen to sign with such a key, best first.

        The first time for an algorithm each scheme is tried and its signature verified.

        Raises:
            MechanismMissing: with none.
        """
        ...

    def keys(self) -> list[TokenKey]:
        """The private keys on the token that have their public half beside them."""
        ...

    def sign(self, key_id: KeyId, scheme: SignatureScheme, message: bytes) -> bytes:
        """Signs the whole `message`; returns TLS's encoding (RFC 8446 section 4.2.3).

        Raises:
            NoSuchKey: the token does not hold the key.
            KeyChanged: it holds another one under that identifier.
            MechanismMissing: it does not sign with `scheme`.
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


class Imports(Protocol):
    """A token that takes keys from outside, too."""

    def import_key(self, private_key: PrivateKey, label: str) -> ImportedKey:
        """Brings a key into the token, where it stays and signs and does nothing else. Blocks.

        The token was seen to sign with it. After a failure nothing of it is left there.

        Raises:
            KeyUnsuitable: the key could leave the token again.
            MechanismMissing: the token takes or uses no such keys.
            TokenFull: there is no room for another key.
            TokenUnavailable: the token cannot be used now.
        """
        ...
