"""YAML data that knows the line of each of its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Scalar = str | int | float | bool | None


@dataclass(frozen=True, order=True)
class Place:
    """`line` counts from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Node:
    """A value and where it stands.

    Whatever is not there, or is of another shape than asked for, reads as empty: files come from
    anybody, and a rule says what it misses.
    """

    place: Place
    value: Scalar | Mapping[str, Node] | tuple[Node, ...] = None
    # Lines of a text in block style are lines of the file.
    block: bool = field(default=False, compare=False)

    def at(self, *keys: str) -> Node:
        """What is below `keys`; if it is not there an empty node, at the last that is."""
        node = self
        for key in keys:
            node = node.fields.get(key) or Node(node.place)
        return node

    @property
    def present(self) -> bool:
        return self.value is not None

    @property
    def fields(self) -> Mapping[str, Node]:
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def items(self) -> tuple[Node, ...]:
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def text(self) -> str:
        """A scalar as it is written in JSON, but texts without quotes."""
        if isinstance(self.value, bool):
            return str(self.value).lower()
        return str(self.value) if isinstance(self.value, str | int | float) else ""

    @property
    def texts(self) -> Mapping[str, str]:
        """Of labels and the like."""
        return {key: each.text for key, each in self.fields.items()}

    @property
    def plain(self) -> Any:
        """Dictionaries, lists and scalars."""
        if isinstance(self.value, Mapping):
            return {key: each.plain for key, each in self.value.items()}
        if isinstance(self.value, tuple):
            return [each.plain for each in self.value]
        return self.value

    def walk(self) -> Iterator[Node]:
        """The node and everything below it."""
        yield self
        for each in (*self.fields.values(), *self.items):
            yield from each.walk()
