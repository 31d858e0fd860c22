"""One generated file: where it goes, what it is for, and the objects in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

Object = Mapping[str, Any]

# Files that have it may be written anew.
MARKER = "Written by `meshkey istio generate`: change the values, not this file."
# The same for objects in a cluster.
PART_OF = {"app.kubernetes.io/part-of": "meshkey"}


class _Dumper(yaml.SafeDumper):  # type: ignore[misc] # no type hints
    """Lists indented below their key, several lines of text as a block: as people write them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


@dataclass(frozen=True)
class Document:
    """`path` is relative to the output directory; `about` becomes the comment at its top."""

    path: str
    about: str
    objects: tuple[Object, ...]

    def text(self) -> str:
        """The file's content."""
        lines = (MARKER, *self.about.splitlines())
        comment = "".join(f"# {line}".rstrip() + "\n" for line in lines)
        return comment + "---\n".join(dumped(each) for each in self.objects)


@dataclass(frozen=True)
class Copy:
    """A file of meshkey's own that is written as it is; `about` is in the file itself."""

    path: str
    content: str

    def text(self) -> str:
        """The file's content."""
        return self.content


def dumped(value: Any) -> str:
    """YAML of plain dictionaries, lists and scalars, in their order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    return text


def metadata(name: str, namespace: str | None = None) -> dict[str, Any]:
    """Of an object that meshkey writes."""
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, "labels": dict(PART_OF)}
