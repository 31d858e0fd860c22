"""docs/istio-check.md: every rule, and no other; and its example. Every rule has a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sidecar.cli import commands
from sidecar.exits import EXIT_FAILED
from sidecar.istio.check.catalogue import RULES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "istio-check.md").read_text(encoding="utf-8")
TESTS = "".join(
    file.read_text(encoding="utf-8")
    for file in (ROOT / "tests" / "unit" / "istio" / "check").rglob("test_*.py")
)


def test_the_table_has_every_rule_and_no_other() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows == [(each.name, each.severity.value, each.about) for each in RULES]


def test_no_two_rules_have_one_name() -> None:
    assert len({each.name for each in RULES}) == len(RULES)


@pytest.mark.parametrize("name", [each.name for each in RULES])
def test_every_rule_has_a_test_that_names_it(name: str) -> None:
    assert re.search(rf'(<< |"){name}\b(?!-)', TESTS)


def test_the_example_is_found_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```yaml\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL)
    assert example
    monkeypatch.chdir(tmp_path)
    Path("state.yaml").write_text(example[1])
    result = CliRunner().invoke(commands, ["istio", "check", "state.yaml"])
    assert result.output.split() == example[2].split()
    assert result.exit_code == EXIT_FAILED
    assert f"Exit code {EXIT_FAILED} " in PAGE
