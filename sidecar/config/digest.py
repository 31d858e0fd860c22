"""What stands for a whole configuration: the same settings, the same digest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import sha256
from typing import Any

from sidecar.config.settings import Settings


def digest(settings: Settings) -> str:
    """SHA-256 over every setting as it applies, whether a file, the environment or a default
    says it. No file that a setting names is read.
    """
    return sha256(_spelled(_plain(settings)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    plain = value
    match value:
        case Enum():
            plain = value.name
        case None | bool() | int() | float():
            pass
        case Mapping():
            plain = {str(key): _plain(each) for key, each in value.items()}
        case Set():
            plain = sorted((_plain(each) for each in value), key=_spelled)
        case tuple() | list():
            plain = [_plain(each) for each in value]
        case _ if is_dataclass(value):
            of = {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
            plain = {"kind": type(value).__name__, "settings": of}
        case _:
            plain = str(value)
    return plain


def _spelled(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
