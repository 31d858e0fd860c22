"""What docs/sds.md tells a reader to write is what the tests run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SHOWN = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TESTED = re.compile(r"^ *# docs/sds.md, from here\n(.*?)^ *# to here$", re.DOTALL | re.MULTILINE)


def test_the_snippets_are_parts_of_a_tested_bootstrap() -> None:
    page = (ROOT / "docs" / "sds.md").read_text(encoding="utf-8")
    bootstrap = ROOT / "tests" / "e2e" / "bootstraps" / "sds.yaml"
    tested = _TESTED.findall(bootstrap.read_text(encoding="utf-8"))
    assert len(tested) == 2
    assert sorted(_SHOWN.findall(page)) == sorted(tested)
