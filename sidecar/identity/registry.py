"""The identities of this sidecar, by name and by key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecar.errors import UnknownIdentity
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
        """What may be signed with `key_id`, whichever identity it belongs to."""
        for identity in self._identities.values():
            if grant := identity.keyring.grant(key_id):
                return grant
        return None
