"""Each claim of docs/threat-model.md names the test that shows it, and that test is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
ATTACKERS = (
    "In the proxy",
    "In the application's container",
    "In a pod of Istio",
    "Where the mesh is configured",
    "Root on the node",
    "With the disk",
    "On the network",
    "In the CA",
)
_TEST = re.compile(r"`((?:tests|envoy-module)/\S+?)(?:::(\w+))?`")


def sections() -> dict[str, str]:
    found = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def named_tests() -> Iterator[tuple[str, str]]:
    yield from _TEST.findall(PAGE)


def rows(section: str) -> list[str]:
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [line for line in lines if not line.startswith("| it tries")]


def test_the_page_has_a_section_for_every_attacker() -> None:
    assert set(ATTACKERS) <= sections().keys()


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_each_attacker_can_do_something_and_each_failure_has_its_test(attacker: str) -> None:
    section = sections()[attacker]
    assert "**Can**" in section
    for row in rows(section):
        assert _TEST.search(row), row
    assert rows(section)


@pytest.mark.parametrize(("file", "name"), sorted(set(named_tests())))
def test_the_named_test_is_there(file: str, name: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert name
    assert re.search(rf"\b(def|fn) {name}\b", text), f"{file} has no {name}"


def test_the_page_says_plainly_what_a_compromised_proxy_can_do() -> None:
    plain = " ".join(PAGE.split())
    assert "A compromised proxy can use the key for live handshakes while it lasts" in plain
    assert "it cannot take it away" in plain
