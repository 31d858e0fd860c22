"""Publishes snapshots and remembers who has acknowledged which."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from sidecar.identity.snapshot import Snapshot, Withdrawal

# Over which of our services somebody follows an identity.
SubscriberKind = Literal["module", "sds"]


class Subscription:
    """One follower of an identity. It sees the newest snapshot, not every one.

    `resource` is the part of the snapshot that it follows; empty means all of it. What one says
    that is not `waited_for` is remembered, and decides nothing.
    """

    def __init__(
        self,
        store: SnapshotStore,
        kind: SubscriberKind = "module",
        resource: str = "",
        *,
        waited_for: bool = True,
    ) -> None:
        self.kind = kind
        self.resource = resource
        self.waited_for = waited_for
        self._store = store
        self._delivered = 0
        self.acked_generation = 0
        # Of the refusal that was its last word; 0 if that was an acknowledgement.
        self.refused_generation = 0
        self.error = ""

    async def next(self) -> Snapshot | Withdrawal:
        """Waits for what is newer than what was returned before."""
        while self._store.generation <= self._delivered:
            await self._store.changed()
        newest = self._store.newest
        assert newest is not None
        self._delivered = newest.generation
        return newest

    def answer(self, generation: int, error: str) -> None:
        """Records an acknowledgement, or a refusal where `error` is not empty.

        An answer about a generation that was never delivered is ignored.
        """
        if not self.acked_generation <= generation <= self._delivered:
            return
        self.error = error
        self.refused_generation = generation if error else 0
        if not error:
            self.acked_generation = generation
        self._store.notify()


class SnapshotStore:
    """Holds the current snapshot. Use it from the event loop only."""

    def __init__(self) -> None:
        self._newest: Snapshot | Withdrawal | None = None
        self._subscriptions: list[Subscription] = []
        # The newest generation that someone who left had refused. He may be back any moment
        # and still uses what came before, so it never counts as acknowledged.
        self._refused = 0
        self._change = asyncio.Event()

    @property
    def newest(self) -> Snapshot | Withdrawal | None:
        """What was published last."""
        return self._newest

    @property
    def current(self) -> Snapshot | None:
        """The same, if it is a snapshot: nothing before the first, and once it is withdrawn."""
        return self._newest if isinstance(self._newest, Snapshot) else None

    @property
    def generation(self) -> int:
        """Of what was published last; 0 before that."""
        return self._newest.generation if self._newest else 0

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        return tuple(self._subscriptions)

    def publish(self, snapshot: Snapshot) -> None:
        """Replaces the current snapshot as a whole."""
        self._newest = snapshot
        self.notify()

    def withdraw(self) -> None:
        """Takes the current snapshot away, as a generation of its own."""
        self._newest = Withdrawal(self.generation + 1)
        self.notify()

    @contextmanager
    def subscribe(
        self, kind: SubscriberKind = "module", resource: str = "", *, waited_for: bool = True
    ) -> Iterator[Subscription]:
        """A subscription that counts as live while the context is open."""
        subscription = Subscription(self, kind, resource, waited_for=waited_for)
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
            if subscription.waited_for:
                self._refused = max(self._refused, subscription.refused_generation)
            self.notify()

    async def acknowledged(self, generation: int) -> None:
        """Waits until `is_acknowledged`."""
        while not self.is_acknowledged(generation):
            await self.changed()

    def is_acknowledged(self, generation: int) -> bool:
        """Whether every live subscription has acknowledged `generation` or a later one.

        Not if someone refused it, or a later one, and left. Of those that are waited for.
        """
        return self._refused < generation and all(
            s.acked_generation >= generation for s in self._subscriptions if s.waited_for
        )

    async def changed(self) -> None:
        """Waits for the next publication, acknowledgement, arrival or departure."""
        await self._change.wait()

    def notify(self) -> None:
        """Wakes everyone who waits for a change."""
        self._change.set()
        self._change = asyncio.Event()
