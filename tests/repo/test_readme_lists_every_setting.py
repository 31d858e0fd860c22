from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from sidecar.config.authorities import CA_KINDS, CaSettings
from sidecar.config.callers import CallerSettings
from sidecar.config.identities import CertifiedSettings, GatewaySettings
from sidecar.config.settings import SECTIONS, TrustSettings
from sidecar.core.schemes import KeyAlgorithm

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
README = Path(__file__).parents[2] / "README.md"


def settings_table() -> Iterator[str]:
    yield "| setting | default | what |"
    yield "|---|---|---|"
    for section, kind in SECTIONS.items():
        yield from _rows(section, fields(kind))
        if section == "identity":
            yield "| `gateway.NAME....` | | as `identity...`, for each gateway, and: |"
            yield from _rows("gateway.NAME", _beyond(GatewaySettings, CertifiedSettings))
            yield from _authorities()
            yield from _rows("trust", fields(TrustSettings))
            yield from _rows("caller", fields(CallerSettings))


def _authorities() -> Iterator[str]:
    yield f"| `ca.kind` | `local` | one of {', '.join(CA_KINDS)} |"
    yield from _rows("ca", fields(CaSettings))
    for name, kind in CA_KINDS.items():
        yield from _rows("ca", _beyond(kind, CaSettings), f"{name}: ")


def _beyond(kind: type[Any], base: type[Any]) -> list[Field[Any]]:
    known = {item.name for item in fields(base)}
    return [item for item in fields(kind) if item.name not in known]


def _rows(section: str, items: Iterable[Field[Any]], prefix: str = "") -> Iterator[str]:
    for item in items:
        yield (f"| `{section}.{item.name}` | {_default(item)} | {prefix}{item.metadata['help']} |")


def _default(item: Field[Any]) -> str:
    if item.default is MISSING:
        return "required" if item.default_factory is MISSING else "none"
    if item.default in (None, "", (), frozenset()):
        return "none"
    match item.default:
        case timedelta() as duration:
            seconds = int(duration.total_seconds())
            unit, name = next((u, n) for u, n in _UNITS if seconds % u == 0)
            return f'`"{seconds // unit}{name}"`'
        case frozenset() as sides:
            return f"`{sorted(side.name.lower() for side in sides)}`".replace("'", '"')
        case KeyAlgorithm() as algorithm:
            return f"`{algorithm.value}`"
        case value:
            return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_the_readme_lists_every_setting_with_its_default() -> None:
    assert "\n".join(settings_table()) in README.read_text(encoding="utf-8")
