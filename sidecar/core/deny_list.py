"""A deny list of peers: the document, apart from who signed it and when it is looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from hashlib import sha256

from sidecar.core import strict_json
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import DenyListRefused

# Signed, in base64: what a ConfigMap holds, and a quarter of what the Envoy module reads at once.
MOST_BYTES = 1 << 20
MOST_ENTRIES = 10_000
# The protocol's numbers have 64 bits, and JSON's readers often 53.
_MOST_SEQUENCE = 2**53 - 1
_LAST_SECOND = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
# Between the clock of whoever signs and ours.
_TOLERANCE = timedelta(minutes=1)
_MEMBERS = {"sequence", "issued_at", "next_update", "spiffe_ids"}


class WhenStale(StrEnum):
    """What is done past `next_update`, and while there never was a list."""

    KEEP = "keep"
    REFUSE = "refuse"


@dataclass(frozen=True)
class DenyList:
    """Peers that are refused whoever certifies them.

    `sequence` is from 1 and grows with each list. Times have whole seconds and a time zone;
    `issued_at` is before `next_update`. No ID is there twice; none at all is possible.
    """

    sequence: int
    issued_at: datetime
    next_update: datetime
    spiffe_ids: tuple[SpiffeId, ...]

    @classmethod
    def parse(cls, document: bytes) -> DenyList:
        """Accepts exactly what `encode` can write, in any layout and order.

        Raises:
            DenyListRefused: with the rule that the document breaks.
        """
        members = json_object(document, "the deny list")
        if members.keys() != _MEMBERS:
            raise DenyListRefused(f"the deny list must have exactly {', '.join(sorted(_MEMBERS))}")
        issued_at, next_update = _time(members, "issued_at"), _time(members, "next_update")
        if next_update <= issued_at:
            raise DenyListRefused("the deny list's next_update is not after its issued_at")
        return cls(
            sequence=_number(members, "sequence", 1, _MOST_SEQUENCE),
            issued_at=issued_at,
            next_update=next_update,
            spiffe_ids=_spiffe_ids(members["spiffe_ids"]),
        )

    def encode(self) -> bytes:
        """The document, ASCII. The same list, the same bytes."""
        return json.dumps(
            {
                "sequence": self.sequence,
                "issued_at": int(self.issued_at.timestamp()),
                "next_update": int(self.next_update.timestamp()),
                "spiffe_ids": [str(each) for each in self.spiffe_ids],
            },
            separators=(",", ":"),
        ).encode("ascii")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what it says; a signature made anew does not change it."""
        return sha256(self.encode()).hexdigest()

    @cached_property
    def denied(self) -> frozenset[SpiffeId]:
        """The same IDs, to look one up."""
        return frozenset(self.spiffe_ids)

    def is_stale(self, now: datetime) -> bool:
        """Whether its successor is overdue."""
        return now >= self.next_update

    def require_issued(self, now: datetime) -> None:
        """Refuses one from the future: a clock is wrong, and nobody knows which.

        Raises:
            DenyListRefused: it was issued more than a minute after `now`.
        """
        if self.issued_at > now + _TOLERANCE:
            raise DenyListRefused(
                f"the deny list of sequence {self.sequence} was issued in the future, at "
                f"{self.issued_at:%Y-%m-%dT%H:%M:%SZ}; set this clock, or its signer's"
            )


def json_object(text: bytes, what: str) -> Mapping[str, object]:
    """The members of a JSON object, none of which is there twice.

    Raises:
        DenyListRefused: it is none; it begins with `what` the text is.
    """
    try:
        members = strict_json.parsed(text)
    except ValueError as error:
        raise DenyListRefused(f"{what} is no readable JSON, or has a member twice") from error
    if not isinstance(members, dict):
        raise DenyListRefused(f"{what} is no JSON object")
    return members


def _number(members: Mapping[str, object], name: str, low: int, high: int) -> int:
    value = members[name]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise DenyListRefused(f"the deny list's {name} is no whole number from {low} to {high}")
    return value


def _time(members: Mapping[str, object], name: str) -> datetime:
    return datetime.fromtimestamp(_number(members, name, 0, _LAST_SECOND), UTC)


def _spiffe_ids(listed: object) -> tuple[SpiffeId, ...]:
    if not isinstance(listed, list):
        raise DenyListRefused("the deny list's spiffe_ids are no list")
    if len(listed) > MOST_ENTRIES:
        raise DenyListRefused(
            f"the deny list has {len(listed)} SPIFFE IDs, at most {MOST_ENTRIES} are possible"
        )
    parsed = tuple(_spiffe_id(each) for each in listed)
    if len(set(parsed)) != len(parsed):
        raise DenyListRefused("the deny list has a SPIFFE ID twice")
    return parsed


def _spiffe_id(text: object) -> SpiffeId:
    if not isinstance(text, str):
        raise DenyListRefused("the deny list has a SPIFFE ID that is no text")
    try:
        return SpiffeId.parse(text)
    except ValueError as error:
        raise DenyListRefused(f"the deny list: {error}") from error
