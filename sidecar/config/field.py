"""A setting: a field with its parser and its one-line description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any


def setting(parse: Callable[[Any], Any], help: str, **kwargs: Any) -> Any:
    """`parse` raises `ValueError` saying what is expected; `help` is what the README says."""
    return field(metadata={"parse": parse, "help": help}, **kwargs)
