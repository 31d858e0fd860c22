"""Documentation that leads somewhere and is finished."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(#[^)]*)?\)")
_CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_PLACEHOLDER = re.compile(r"\b(COLD|SUMMARY|TODO|TBD|FIXME|XXX)\b")
_REFERENCE = re.compile(
    r"`((?:sidecar|tests|docs|envoy-config|envoy-module|benchmarks|proto)/[^`*<]+)`"
)


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_to_what_is_there(page: Path) -> None:
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    missing = [match[1] for match in _LINK.finditer(text) if not (page.parent / match[1]).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_nothing_is_left_to_be_filled_in(page: Path) -> None:
    assert not _PLACEHOLDER.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_that_are_spoken_of_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = {match[1].split()[0].split("::")[0].rstrip("/:") for match in _REFERENCE.finditer(text)}
    assert not {name for name in named if not (ROOT / name).exists()}
