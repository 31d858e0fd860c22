"""Every kind of token has a page, and it says whether anybody ever ran it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.token.profiles import PROFILES

PAGES = Path(__file__).parents[2] / "docs" / "tokens"
RUN_HERE = {"softhsm2", "tpm2", "p11-kit"}


@pytest.mark.parametrize("name", PROFILES)
def test_a_page_says_first_whether_it_was_run(name: str) -> None:
    title, _, first, *_ = (PAGES / f"{name}.md").read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ")
    assert first.startswith("Run here" if name in RUN_HERE else "**Not run here**")


def test_no_page_is_of_a_token_that_has_no_profile() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == set(PROFILES)


@pytest.mark.parametrize("name", sorted(set(PROFILES) - {"generic"}))
def test_a_page_names_the_module_that_its_profile_knows(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert PROFILES[name].modules[0] in text
