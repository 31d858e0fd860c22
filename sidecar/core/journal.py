"""The seam between those to whom something happens and whoever keeps the record of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

Fact: TypeAlias = str | int | bool | Mapping[str, "Fact"] | Sequence["Fact"] | None


class Journal(Protocol):
    """Keeps a record of events. Use it from the event loop; it never blocks or raises."""

    def record(self, event: str, **facts: Fact) -> None:
        """`event` is a constant of lower case words. Facts hold no secret and no payload."""
        ...


class NoJournal:
    """Where nothing is kept."""

    def record(self, event: str, **facts: Fact) -> None:
        """Nothing happens."""


NOWHERE = NoJournal()
