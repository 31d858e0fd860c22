from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from sidecar.config.settings import SECTIONS
from sidecar.core.schemes import KeyAlgorithm

_UNITS = ((3600, "h"), (60, "m"), (1, "s"))
README = Path(__file__).parents[2] / "README.md"


def settings_table() -> Iterator[str]:
    yield "| setting | default | what |"
    yield "|---|---|---|"
    for section, kind in SECTIONS.items():
        for item in fields(kind):
            yield f"| `{section}.{item.name}` | {_default(item)} | {item.metadata['help']} |"


def _default(item: Field[Any]) -> str:
    match item.default:
        case value if value is MISSING:
            return "required"
        case timedelta() as duration:
            seconds = int(duration.total_seconds())
            unit, name = next((u, n) for u, n in _UNITS if seconds % u == 0)
            return f'`"{seconds // unit}{name}"`'
        case frozenset() as sides:
            return f"`{sorted(side.name.lower() for side in sides)}`".replace("'", '"')
        case None:
            return "none"
        case KeyAlgorithm() as algorithm:
            return f"`{algorithm.value}`"
        case value:
            return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_the_readme_lists_every_setting_with_its_default() -> None:
    assert "\n".join(settings_table()) in README.read_text(encoding="utf-8")
