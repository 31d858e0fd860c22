"""Injection templates: pods in YAML with Go's template actions between the lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sidecar.istio.check.finding import Finding, warning
from sidecar.istio.check.loader import DUPLICATE, load
from sidecar.istio.check.located import Node, Place

UNREADABLE = warning(
    "unreadable-template", "An injection template cannot be read without running its actions."
)

_ACTION = re.compile(r"\{\{(?:(?!\{\{).)*?\}\}", re.DOTALL)
# An action that is alone on its lines writes none; another one writes a part of a value.
_ALONE = re.compile(rf"^[ \t]*({_ACTION.pattern}[ \t]*)+$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Template:
    """`pod` is as far as it is written out; `text` is with the actions."""

    name: str
    text: str
    pod: Node


def within(node: Node) -> Place:
    """Where the first line of the file stands that `node` carries as a text."""
    return Place(node.place.file, node.place.line + 1) if node.block else node.place


def templates(parent: Node) -> Iterator[Template | Finding]:
    """Of a mapping from names to texts.

    No action is run: what stands in both branches of an `if` is read as if it were all there.
    """
    for name, node in parent.fields.items():
        for read in load(_without_actions(node.text), within(node)):
            if isinstance(read, Node):
                yield Template(name, node.text, read)
            elif read.rule is not DUPLICATE:
                yield UNREADABLE.at(
                    read.place,
                    f"template {name} was not checked: {read.happens}",
                    "check what it renders instead, an injected pod",
                )


def _without_actions(text: str) -> str:
    """Every line stays where it was."""
    text = _ALONE.sub(lambda found: "\n" * found[0].count("\n"), text)
    return _ACTION.sub(lambda found: "_" * len(found[0].replace("\n", "")), text)
