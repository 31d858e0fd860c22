"""The keys of one identity that never sign again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sidecar.errors import KeyRevoked
from sidecar.identity.keys import KeySource
from sidecar.identity.tombstones import Tombstone
from sidecar.token.base import KeyId, TokenKey


class Revocations:
    """What was revoked, here and in earlier starts. Safe to read from any thread."""

    def __init__(
        self, name: str, known: Mapping[KeyId, Tombstone], now: Callable[[], datetime]
    ) -> None:
        self._name = name
        self._known = dict(known)
        self._now = now

    def add(self, key_id: KeyId, tombstone: Tombstone) -> None:
        """From here on the key is one of them."""
        self._known[key_id] = tombstone

    def named(self, key_id: KeyId) -> Tombstone | None:
        """What is known of a key that was revoked; `None`: it was not."""
        return self._known.get(key_id)

    def own(self) -> Mapping[KeyId, Tombstone]:
        """Those of this identity; those whose tombstone is damaged may be."""
        return {
            key_id: tombstone
            for key_id, tombstone in self._known.items()
            if tombstone.identity in {self._name, ""}
        }

    def announced(self) -> tuple[KeyId, ...]:
        """Those of which somebody may still believe a certificate: subscribers are told."""
        return tuple(key_id for key_id, tombstone in self.own().items() if self._lives(tombstone))

    def require_none(self, key_id: KeyId) -> None:
        """Raises `KeyRevoked` where the key is one of them."""
        if key_id in self._known:
            raise KeyRevoked(
                f"key {key_id} was revoked; if it is the one in key_id, set that to another key, "
                "or leave it out, and start again"
            )

    def _lives(self, tombstone: Tombstone) -> bool:
        if tombstone.at is None:
            return True  # nobody knows until when
        return any(each.not_after > self._now() for each in tombstone.certificates)


class Unrevoked:
    """A `KeySource` without the keys that were revoked."""

    def __init__(self, keys: KeySource, revocations: Revocations) -> None:
        self._keys = keys
        self._revocations = revocations

    async def obtain(self, generation: int) -> TokenKey:
        """Raises `KeyRevoked`, beside what the other source raises: before a CA is asked."""
        key = await self._keys.obtain(generation)
        self._revocations.require_none(key.id)
        return key

    async def discard(self, key: TokenKey) -> None:
        await self._keys.discard(key)

    def may_reuse(self, key: TokenKey) -> bool:
        return self._revocations.named(key.id) is None and self._keys.may_reuse(key)
