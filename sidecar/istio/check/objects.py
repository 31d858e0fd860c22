"""The objects of Kubernetes in a set of files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from sidecar.istio.check.located import Node, Place

_DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, eq=False)
class Object:
    """One of them; without a namespace of its own it is in `default`, as for kubectl."""

    node: Node

    @property
    def kind(self) -> str:
        return self.node.at("kind").text

    @property
    def name(self) -> str:
        return self.node.at("metadata", "name").text

    @property
    def namespace(self) -> str:
        return self.node.at("metadata", "namespace").text or _DEFAULT_NAMESPACE

    @property
    def place(self) -> Place:
        return self.node.at("metadata", "name").place

    @property
    def spec(self) -> Node:
        return self.node.at("spec")

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Objects:
    """Indexed by kind, namespace and name. Documents of no kind are values of Helm charts."""

    def __init__(self, documents: Iterable[Node]) -> None:
        found = [each for document in documents for each in _listed(document)]
        self.charts = tuple(each for each in found if not each.at("kind").present)
        self._by_kind: dict[str, list[Object]] = {}
        for node in found:
            if kind := node.at("kind").text:
                self._by_kind.setdefault(kind, []).append(Object(node))

    def of(self, *kinds: str) -> tuple[Object, ...]:
        """In the order of the files."""
        return tuple(each for kind in kinds for each in self._by_kind.get(kind, ()))

    def within(self, namespace: str, *kinds: str) -> tuple[Object, ...]:
        """Those of one namespace."""
        return tuple(each for each in self.of(*kinds) if each.namespace == namespace)

    def named(self, kind: str, namespace: str, name: str) -> Object | None:
        """The one, if it is in the set."""
        return self._by_name.get((kind, namespace, name))

    @cached_property
    def _by_name(self) -> Mapping[tuple[str, str, str], Object]:
        every = (each for objects in self._by_kind.values() for each in objects)
        return {(each.kind, each.namespace, each.name): each for each in every}


def _listed(document: Node) -> Iterator[Node]:
    """A List is what is in it, as kubectl get writes it."""
    if document.at("kind").text.endswith("List") and document.at("items").present:
        for each in document.at("items").items:
            yield from _listed(each)
    elif document.fields:
        yield document
