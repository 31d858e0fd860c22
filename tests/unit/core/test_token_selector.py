"""Which tokens a selector takes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sidecar.core.token_selector import TokenDescription, TokenSelector

TOKEN = TokenDescription("mesh", "0a1b", "SoftHSM project", "SoftHSM v2", 7)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TokenDescription)])
def test_each_part_that_is_asked_must_be_the_same(name: str) -> None:
    value: Any = getattr(TOKEN, name)
    assert TokenSelector(**{name: value}).matches(TOKEN)
    others: list[Any] = [6, 0] if name == "slot_id" else [f"{value}x", value[1:], ""]
    for other in others:
        assert not TokenSelector(**{name: other}).matches(TOKEN)


def test_all_parts_that_are_asked_must_be_the_same() -> None:
    everything: dict[str, Any] = dataclasses.asdict(TOKEN)
    assert TokenSelector(**everything).matches(TOKEN)
    for name, value in everything.items():
        wrong = value + 1 if name == "slot_id" else f"{value} "
        assert not TokenSelector(**{**everything, name: wrong}).matches(TOKEN)


def test_an_empty_text_is_a_text() -> None:
    blank = dataclasses.replace(TOKEN, serial="")
    assert TokenSelector(serial="").matches(blank)
    assert not TokenSelector(serial="").matches(TOKEN)


def test_a_selector_that_asks_for_nothing_is_none() -> None:
    with pytest.raises(ValueError, match="name the token"):
        TokenSelector()
    assert TokenSelector(slot_id=0)


def test_a_selector_says_what_it_asks_for() -> None:
    assert str(TokenSelector(label="mesh")) == "labelled 'mesh'"
    assert str(TokenSelector(label="a", model="b", slot_id=0)) == (
        "labelled 'a', of model 'b', in slot 0"
    )
