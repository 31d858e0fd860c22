"""JSON from outside, of which every reader understands the same."""

from __future__ import annotations

import json
from collections.abc import Sequence


def parsed(document: bytes) -> object:
    """What the document says.

    Raises:
        ValueError: it is no JSON in UTF-8, is nested too deep, or has a member twice: which of
            the two counts would be each reader's own choice (RFC 7517 section 4).
    """
    try:
        return json.loads(document.decode(), object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _without_duplicates(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members
