"""Reading a document of plain YAML data: each value once, each mistake by where it stands."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from sidecar.errors import ConfigurationError

_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)
_Result_co = TypeVar("_Result_co", covariant=True)
# RFC 1123, as Kubernetes wants its names.
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Convert(Protocol[_Result_co]):
    """From a value of the document, and where it stands for the error."""

    def __call__(self, where: str, value: Any, /) -> _Result_co: ...


class Table:
    """A mapping whose values are taken one by one; what is left over is a mistake."""

    def __init__(self, where: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise mistake(where, "a mapping is needed")
        self._where = where
        self._left = dict(value)
        self._known: list[str] = []

    def take(self, key: str, convert: Convert[_T], default: _T | None = None) -> _T:
        """The value of `key`, converted; the default if there is none."""
        self._known.append(key)
        if key in self._left:
            return convert(f"{self._where}.{key}", self._left.pop(key))
        if default is None:
            raise mistake(f"{self._where}.{key}", "is missing")
        return default

    def end(self) -> None:
        """Refuses what nobody took."""
        for key in self._left:
            raise mistake(f"{self._where}.{key}", f"unknown; known: {', '.join(self._known)}")


def mistake(where: str, what: str) -> ConfigurationError:
    """To be raised: what is wrong with the value that stands there."""
    return ConfigurationError(f"{where}: {what}")


def text(where: str, value: Any) -> str:
    """Not empty."""
    if not isinstance(value, str) or not value:
        raise mistake(where, "a text is needed; put it in quotes if it looks like something else")
    return value


def label(where: str, value: Any) -> str:
    """A name, as namespaces have them."""
    if not LABEL.fullmatch(text(where, value)):
        raise mistake(where, f"{value!r} is no name of Kubernetes: use a-z, 0-9 and dashes")
    return str(value)


def switch(where: str, value: Any) -> bool:
    """True or false, in YAML's own words."""
    if not isinstance(value, bool):
        raise mistake(where, "true or false is needed")
    return value


def port_number(where: str, value: Any) -> int:
    """Of TCP."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        raise mistake(where, "a port number is needed")
    return value


def one_of(kind: type[_E]) -> Convert[_E]:
    """A word of `kind`."""

    def convert(where: str, value: Any) -> _E:
        if value not in list(kind):
            raise mistake(where, f"{value!r}: use one of {', '.join(kind)}")
        return kind(value)

    return convert


def items(convert: Convert[_T]) -> Convert[tuple[_T, ...]]:
    """A list of what `convert` takes; it may be empty."""

    def convert_all(where: str, value: Any) -> tuple[_T, ...]:
        if not isinstance(value, list):
            raise mistake(where, "a list is needed")
        return tuple(convert(f"{where}[{index}]", each) for index, each in enumerate(value))

    return convert_all


def some(convert: Convert[_T]) -> Convert[tuple[_T, ...]]:
    """The same, with at least one."""

    def convert_all(where: str, value: Any) -> tuple[_T, ...]:
        if not (converted := items(convert)(where, value)):
            raise mistake(where, "an empty list: name at least one")
        return converted

    return convert_all
