"""The identities of this sidecar, by name and by key."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

from sidecar.errors import (
    KeyChanged,
    NoSuchKey,
    RefusalReason,
    SigningRefused,
    TokenUnavailable,
    UnknownIdentity,
    UnknownKey,
)
from sidecar.identity.identity import Identity
from sidecar.identity.snapshot import KeyGrant
from sidecar.token.base import KeyId

DEFAULT = "default"
KEY_ENDED = "the key has ended: use the key of the newest identity update"


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
            raise _unknown(name) from None

    def permitted(self, name: str, among: Container[str]) -> Identity:
        """Like `named`, for a caller who may have the identities `among`.

        Raises:
            UnknownIdentity: also for every other; the caller cannot tell them from none.
        """
        if (name or DEFAULT) not in among:
            raise _unknown(name)
        return self.named(name)

    def grant(self, key_id: KeyId, among: Iterable[str]) -> KeyGrant | None:
        """What may be signed with `key_id`, if it belongs to one of the identities `among`.

        The others are not looked at: nobody learns, not even from how long it takes, whether
        one of them has the key.

        Raises:
            SigningRefused: it does, and the key's lease is over.
        """
        for name in among:
            identity = self._identities.get(name)
            if identity and (grant := identity.keyring.grant(key_id)):
                return grant
        return None

    def holds(self, key_id: KeyId) -> bool:
        """Whether the key has not ended. Safe to ask from any thread."""
        return self._holder(key_id) is not None

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
        owner = self._holder(key_id)
        if owner is None:
            return
        owner.publisher.denials.require_signing(owner.spiffe_id)
        if owner.keyring.is_distrusted(key_id):
            raise TokenUnavailable(f"key {key_id} has changed on the token; another replaces it")

    def require_signing(self, key_id: KeyId) -> None:
        """Once more, before a signature leaves: it may have been asked for a while ago.

        Raises:
            SigningRefused: by now the key has ended, its certificate or lease is over, or the
                deny list names the identity that has it.
            DenyListUnavailable: see `Denials.require_signing`.
        """
        for identity in self._identities.values():
            if identity.keyring.grant(key_id):
                identity.publisher.denials.require_signing(identity.spiffe_id)
                return
        raise SigningRefused(RefusalReason.UNKNOWN_KEY, KEY_ENDED)

    def replace(self, key_id: KeyId, error: NoSuchKey | KeyChanged) -> None:
        """Tells the identity that has `key_id` that it is of no use any more."""
        if owner := self._owner(key_id):
            owner.replace(key_id, error)

    def _holder(self, key_id: KeyId) -> Identity | None:
        for identity in self._identities.values():
            if identity.keyring.holds(key_id):
                return identity
        return None

    def _owner(self, key_id: KeyId) -> Identity | None:
        for identity in self._identities.values():
            if identity.keyring.unexpired(key_id):
                return identity
        return None


def _unknown(name: str) -> UnknownIdentity:
    return UnknownIdentity(f"no identity {name!r} here; see: meshkey status")
