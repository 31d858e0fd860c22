"""What istio-overlays holds, by what judges it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3] / "istio-overlays"
# Each is made of the values of its name; some have gateways.
VARIANTS = sorted(file.stem for file in (ROOT / "values").iterdir())
WITH_GATEWAY = [each for each in VARIANTS if (ROOT / each / "install/gateway-values.yaml").exists()]
# These, and what is written by hand.
DIRECTORIES = sorted({each.name for each in ROOT.iterdir() if each.is_dir()} - {"values"})


@dataclass(frozen=True)
class Found:
    """One document of a file."""

    file: Path
    document: dict[str, Any]

    @property
    def kind(self) -> tuple[str, str]:
        return self.document.get("apiVersion", ""), self.document.get("kind", "")

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}: {self.kind[1] or 'values'}"


def documents(directory: str) -> Iterator[Found]:
    for file in sorted((ROOT / directory).rglob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            yield Found(file, document)


def objects(directory: str) -> list[Found]:
    """What an API server would be given."""
    return [
        each for each in documents(directory) if "kustomize" not in each.kind[0] and all(each.kind)
    ]


def installed(variant: str, file: str) -> dict[str, Any]:
    """One of the files in install/."""
    content = yaml.safe_load((ROOT / variant / "install" / file).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content
