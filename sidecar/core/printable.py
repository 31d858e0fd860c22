"""Text from outside, for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """With a mark for each character that does something else than to be seen."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
