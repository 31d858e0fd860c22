"""From text to located YAML: nothing is constructed but scalars, lists and mappings.

Bounded, because files come from anybody: the size of the text, the depth, and how much all aliases
come to when they are written out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from sidecar.istio.check.finding import Finding, error
from sidecar.istio.check.located import Node, Place, Scalar

MOST_CHARACTERS = 4 * 1024 * 1024
_DEEPEST = 100
# Of a text, with each alias written out.
_MOST_VALUES = 1_000_000
# Python writes integers of 4300 digits at most.
_MOST_BITS = 8192

INVALID = error("invalid-yaml", "A file is no YAML, or is too large.")
DUPLICATE = error("duplicate-key", "A mapping has a key twice.")

_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"


def load(text: str, start: Place) -> Iterator[Node | Finding]:
    """Every document that is not empty, and what is wrong with the text.

    Args:
        text: one or more documents.
        start: of the text's first line.
    """
    if len(text) > MOST_CHARACTERS:
        yield INVALID.at(
            start,
            f"nothing in it was checked: it has more than {MOST_CHARACTERS} characters",
            "split it",
        )
        return
    documents = _documents(text, start)
    while True:
        try:
            root, duplicates = next(documents)
        except StopIteration:
            return
        except (yaml.YAMLError, ValueError, OverflowError) as problem:
            # The latter two: of an escape or a version with a number beyond all bounds.
            yield _invalid(problem, start)
            return
        yield from duplicates
        if root.present:
            yield root


def _documents(text: str, start: Place) -> Iterator[tuple[Node, list[Finding]]]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            conversion = _Conversion(start)
            yield conversion.node(loader.get_node()), conversion.duplicates
    finally:
        loader.dispose()


def _invalid(problem: Exception, start: Place) -> Finding:
    mark = getattr(problem, "problem_mark", None)
    place = Place(start.file, start.line + mark.line) if mark else start
    said = getattr(problem, "problem", None) or getattr(problem, "reason", None) or "unreadable"
    return INVALID.at(
        place, f"nothing from here on was checked: {said}", "correct the YAML, and check again"
    )


class _Loader(yaml.SafeLoader):  # type: ignore[misc] # no type hints
    """Composes nodes and refuses what is too deep or too much."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._earlier = 0
        self._sizes: dict[int, int] = {}

    def compose_document(self) -> yaml.Node:
        self._sizes.clear()
        root = super().compose_document()
        self._earlier += self._sizes[id(root)]
        return root

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._refused(f"deeper than {_DEEPEST}", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent) and id(node) not in self._sizes:
            raise self._refused("an alias inside of what it stands for", event)
        self._sizes[id(node)] = size = 1 + sum(self._sizes[id(each)] for each in _children(node))
        if self._earlier + size > _MOST_VALUES:
            raise self._refused(f"more than {_MOST_VALUES} values", event)
        return node

    @staticmethod
    def _refused(why: str, event: yaml.Event) -> yaml.YAMLError:
        return yaml.MarkedYAMLError(problem=why, problem_mark=event.start_mark)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (key, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


class _Conversion:
    """Of one document. What several aliases stand for is converted once."""

    def __init__(self, start: Place) -> None:
        self._start = start
        self._done: dict[int, Node] = {}
        self.duplicates: list[Finding] = []

    def node(self, node: yaml.Node) -> Node:
        if id(node) not in self._done:
            self._done[id(node)] = self._converted(node)
        return self._done[id(node)]

    def _converted(self, node: yaml.Node) -> Node:
        if isinstance(node, yaml.MappingNode):
            return Node(self._place(node), self._fields(node))
        if isinstance(node, yaml.SequenceNode):
            return Node(self._place(node), tuple(self.node(each) for each in node.value))
        return Node(self._place(node), _scalar(node), block=node.style == "|")

    def _fields(self, mapping: yaml.MappingNode) -> dict[str, Node]:
        merged: dict[str, Node] = {}
        own: dict[str, Node] = {}
        for key, value in mapping.value:
            node = self.node(value)
            if key.tag == _MERGE:
                for each in reversed(node.items or (node,)):
                    merged.update(each.fields)
                continue
            name = _text(key) if isinstance(key, yaml.ScalarNode) else ""
            if name in own:
                self.duplicates.append(
                    DUPLICATE.at(
                        self._place(key),
                        f"{name!r} is there twice in one mapping: only one of them counts",
                        "remove one of them",
                    )
                )
            own[name] = self._of_key(key, node)
        return {**merged, **own}

    def _of_key(self, key: yaml.Node, node: Node) -> Node:
        """An empty value stands where its key does, and so do lists and mappings."""
        if isinstance(node.value, str) and not node.block and node.value:
            return node
        return Node(self._place(key), node.value, node.block)

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._start.file, self._start.line + node.start_mark.line)


def _scalar(node: yaml.ScalarNode) -> Scalar:
    """What Kubernetes makes of it; what that cannot be read as is a text."""
    text = _text(node)
    if node.tag == _NULL:
        return None
    construct = _SCALARS.get(node.tag)
    try:
        value = construct(node) if construct else text
    except (ValueError, KeyError, OverflowError, yaml.YAMLError):
        return text
    # A text that Kubernetes refuses as a number, too.
    return text if isinstance(value, int) and value.bit_length() > _MOST_BITS else value


def _text(node: yaml.ScalarNode) -> str:
    """JSON's pairs of surrogates are one character each; half of a pair cannot be printed."""
    text: str = node.value
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_SCALARS: Mapping[str, Callable[[yaml.ScalarNode], Scalar]] = {
    f"tag:yaml.org,2002:{kind}": getattr(
        yaml.constructor.SafeConstructor(), f"construct_yaml_{kind}"
    )
    for kind in ("int", "float", "bool")
}
