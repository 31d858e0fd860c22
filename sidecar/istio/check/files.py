"""From paths to located YAML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sidecar.istio.check.finding import Finding, error
from sidecar.istio.check.loader import MOST_CHARACTERS, load
from sidecar.istio.check.located import Node, Place

UNREADABLE = error("unreadable-file", "A file cannot be read, or a directory has no YAML in it.")

_NAMES = ("*.yaml", "*.yml")


def loaded(paths: Sequence[Path]) -> Iterator[Node | Finding]:
    """Every document of the files, and of those with YAML's names below the directories."""
    for file in dict.fromkeys(file for path in paths for file in _files(path)):
        yield from _loaded(file)


def _files(path: Path) -> Iterator[Path]:
    """A directory without any is yielded itself, to be told of."""
    if not path.is_dir():
        yield path
        return
    found = {each for name in _NAMES for each in path.rglob(name) if each.is_file()}
    yield from sorted(found) or [path]


def _loaded(file: Path) -> Iterator[Node | Finding]:
    start = Place(str(file), 1)
    if file.is_dir():
        yield UNREADABLE.at(
            start, "nothing was checked: no .yaml or .yml file in it", "name the files"
        )
        return
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(MOST_CHARACTERS + 1)
    except OSError as problem:
        yield UNREADABLE.at(start, f"it was not checked: {problem.strerror}", "name another")
    except UnicodeDecodeError as problem:
        yield UNREADABLE.at(start, f"it was not checked: {problem}", "write it in UTF-8")
    else:
        yield from load(text, start)
