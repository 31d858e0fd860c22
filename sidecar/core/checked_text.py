"""The text of a small file of our own, that shows whether it is what was written.

The digest in it finds damage. It keeps nobody from writing another file: who reads one checks
what it says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_FORMAT = 1
# What reading a damaged file may raise.
DAMAGED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def encoded(content: Mapping[str, object]) -> bytes:
    """With version and digest: always the same for the same `content`."""
    digest = hashlib.sha256(_json(content)).hexdigest()
    return _json({"format": _FORMAT, "sha256": digest, "content": content}) + b"\n"


def content_of(raw: bytes) -> Any:
    """What a file seems to hold. Encode what was understood, and compare: that is the check.

    It finds a wrong version or digest and whatever else is in the file. May raise `DAMAGED`.
    """
    return json.loads(raw.decode("ascii"))["content"]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
