"""SPIFFE IDs and trust domains, parsed once at the edge (SPIFFE ID specification, section 2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
_MAX_BYTES = 2048


@dataclass(frozen=True, order=True)
class SpiffeId:
    """`spiffe://<trust_domain><path>`; `path` starts with a slash and is not empty."""

    trust_domain: str
    path: str

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Parses the textual form of a workload's ID.

        Raises:
            ValueError: with the rule that `text` breaks.
        """
        if not text.startswith("spiffe://"):
            raise ValueError(f"{text!r} is not a SPIFFE ID: it does not start with spiffe://")
        if len(text.encode()) > _MAX_BYTES:
            raise ValueError(f"a SPIFFE ID has at most {_MAX_BYTES} bytes")
        domain, slash, path = text.removeprefix("spiffe://").partition("/")
        if not _TRUST_DOMAIN.fullmatch(domain):
            raise ValueError(
                f"{text!r}: a trust domain has only the characters a-z, 0-9, dot, dash, underscore"
            )
        if not slash:
            raise ValueError(f"{text!r} names a trust domain, not a workload: the path is missing")
        for segment in path.split("/"):
            if not _SEGMENT.fullmatch(segment) or segment in {".", ".."}:
                raise ValueError(f"{text!r}: path segment {segment!r} is not allowed")
        return cls(domain, f"/{path}")

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}{self.path}"


def trust_domain(text: str) -> str:
    """Checks the name of a trust domain.

    Raises:
        ValueError: `text` is not one.
    """
    if not _TRUST_DOMAIN.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a trust domain: use a-z, 0-9, dot, dash, underscore, as in demo.mesh"
        )
    return text
