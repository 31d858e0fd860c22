"""The keys of one identity as operators see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from sidecar.identity.publisher import Publisher
from sidecar.identity.tombstones import Tombstone
from sidecar.token.base import KeyId, Origin


class KeyState(Enum):
    """What a key is for now."""

    CURRENT = "current"
    # Replaced, and still signing for whoever has not acknowledged its successor.
    RETIRING = "retiring"
    REVOKED = "revoked"


@dataclass(frozen=True)
class LiveKey:
    """A key that signs, or was told never to."""

    key_id: KeyId
    state: KeyState
    # `None`, and generation 0, for what was revoked before this process started.
    origin: Origin | None
    generation: int
    # Of its newest certificate; `None`: nobody knows any more.
    not_after: datetime | None


def live_keys(publisher: Publisher) -> list[LiveKey]:
    """Those that sign first, the newest first; what has expired and is not gone is among them."""
    current = publisher.store.current
    signing = []
    for grant in publisher.keyring.grants:
        is_current = current is not None and current.key_id == grant.key_id
        state = KeyState.CURRENT if is_current else KeyState.RETIRING
        signing.append(_key(publisher, grant.key_id, state, grant.not_after))
    signing.sort(key=lambda key: key.generation, reverse=True)
    return signing + [
        _key(publisher, key_id, KeyState.REVOKED, _not_after(tombstone))
        for key_id, tombstone in publisher.revocations.own().items()
    ]


def _key(
    publisher: Publisher, key_id: KeyId, state: KeyState, not_after: datetime | None
) -> LiveKey:
    published = publisher.published.get(key_id)
    origin, generation = published or (None, 0)
    return LiveKey(key_id, state, origin, generation, not_after)


def _not_after(tombstone: Tombstone) -> datetime | None:
    return max((each.not_after for each in tombstone.certificates), default=None)
