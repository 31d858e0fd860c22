"""Text from outside."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.printable import printable


def test_what_can_be_seen_stays_and_the_rest_is_marked() -> None:
    assert printable("né 日本 [b]") == "né 日本 [b]"
    assert printable("a\x1b[2J\n\t\x00\u202e\x9b") == "a�[2J�����"


@given(st.text())
def test_nothing_gets_lost_and_nothing_acts(text: str) -> None:
    assert len(printable(text)) == len(text)
    assert printable(text).isprintable()
