"""The identities of this sidecar, by name and by key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecar.errors import (
    KeyChanged,
    NoSuchKey,
    TokenUnavailable,
    UnknownIdentity,
    UnknownKey,
)
from sidecar.identity.identity import Identity
from sidecar.identity.snapshot import KeyGrant
from sidecar.token.base import KeyId

DEFAULT = "default"


class IdentityRegistry:
    """Finds an identity; knows nothing of how it lives."""

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._identities = {identity.name: identity for identity in identities}

    def __iter__(self) -> Iterator[Identity]:
        return iter(self._identities.values())

    def named(self, name: str) -> Identity:
        """The identity of that name; an empty name means "default".

        Raises:
            UnknownIdentity: none is configured under it.
        """
        try:
            return self._identities[name or DEFAULT]
        except KeyError:
            raise UnknownIdentity(f"no identity {name!r} here; see: meshkey status") from None

    def grant(self, key_id: KeyId) -> KeyGrant | None:
        """What may be signed with `key_id`, whichever identity it belongs to.

        Raises:
            SigningRefused: its lease is over.
        """
        owner = self._owner(key_id)
        return owner.keyring.grant(key_id) if owner else None

    def holds(self, key_id: KeyId) -> bool:
        """Whether the key has not ended. Safe to ask from any thread."""
        return any(identity.keyring.holds(key_id) for identity in self._identities.values())

    def owner(self, key_id: KeyId) -> Identity:
        """Whose key it is, or was until it was revoked.

        Raises:
            UnknownKey: nobody's.
        """
        for identity in self._identities.values():
            if identity.has(key_id):
                return identity
        raise UnknownKey(
            f"no key {key_id} in this process; list those that sign with: meshkey keys live"
        )

    def require_trusted(self, key_id: KeyId) -> None:
        """Raises `TokenUnavailable` where the token was seen to hold another key under it.

        Whoever asks is to come back with the key that replaces it. Also raises what
        `Denials.require_signing` raises for the identity that has the key.
        """
        owner = self._owner(key_id)
        if owner is None:
            return
        owner.publisher.denials.require_signing(owner.spiffe_id)
        if owner.keyring.is_distrusted(key_id):
            raise TokenUnavailable(f"key {key_id} has changed on the token; another replaces it")

    def replace(self, key_id: KeyId, error: NoSuchKey | KeyChanged) -> None:
        """Tells the identity that has `key_id` that it is of no use any more."""
        if owner := self._owner(key_id):
            owner.replace(key_id, error)

    def _owner(self, key_id: KeyId) -> Identity | None:
        for identity in self._identities.values():
            if identity.keyring.unexpired(key_id):
                return identity
        return None
