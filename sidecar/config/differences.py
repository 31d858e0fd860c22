"""In which settings two configurations differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from sidecar.config.settings import Settings

# Sections that documents spell otherwise than `Settings` does.
_SPELLED = {"authorities": "ca", "callers": "caller", "gateways": "gateway"}


def differences(old: Settings, new: Settings) -> list[str]:
    """Their names as documents spell them: "log.level", or "caller" for a repeated section.

    A section that is there in one of them only is named as a whole. Never a value.
    """
    return [
        name
        for section in fields(Settings)
        for name in _between(
            _SPELLED.get(section.name, section.name),
            getattr(old, section.name),
            getattr(new, section.name),
        )
    ]


def _between(name: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _between(f"{name}.{key}", old.get(key), new.get(key))
    elif is_dataclass(old) and type(old) is type(new):
        for field in fields(old):
            if getattr(old, field.name) != getattr(new, field.name):
                yield f"{name}.{field.name}"
    else:
        yield name
