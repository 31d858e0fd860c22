"""One record: a line of JSON that is chained to the line before it.

    {"seq":7,"time":"...","event":"key born",...facts...,"chain":"<64 hexadecimal digits>"}

`chain` is SHA-256 over the chain value before it (32 bytes; zeros before the first record)
and the line's own bytes up to `,"chain"`. So it depends on every byte since the beginning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from sidecar.core.journal import Fact
from sidecar.core.process import CallingProcess

# A key id of ours has 16 bytes. What a caller sends instead is not worth more than this.
_LONGEST_KEY_ID = 64
_LINE = re.compile(
    rb'(\{"seq":([1-9][0-9]{0,17}),"time":"[0-9TZ:.-]+","event":"([a-z ]+)".*)'
    rb',"chain":"([0-9a-f]{64})"\}'
)


class Link(NamedTuple):
    """The end of a chain: how many records, and what stands for all of them."""

    seq: int = 0
    chain: bytes = bytes(32)

    def next(self, content: bytes) -> Link:
        """The end after one more record, whose line is `content` up to `,"chain"`."""
        return Link(self.seq + 1, sha256(self.chain + content).digest())


def line(before: Link, time: str, event: str, facts: str) -> tuple[bytes, Link]:
    """The line of the record after `before`, without its newline, and the chain's new end.

    `facts` is what `facts_of` or `signature_facts` returns.
    """
    content = f'{{"seq":{before.seq + 1},"time":"{time}","event":"{event}"{facts}'.encode("ascii")
    # What `Link.next` does, with one hash for both its forms: this is for every signature.
    digest = sha256(before.chain + content)
    ending = f',"chain":"{digest.hexdigest()}"}}'.encode("ascii")
    return content + ending, Link(before.seq + 1, digest.digest())


@dataclass(frozen=True)
class Record:
    """A line that has the form of a record. Whether it is one, the chain says."""

    raw: bytes
    seq: int
    event: str
    content: bytes
    chain: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Record | None:
        """`None` for a line of any other form; `raw` is without its newline."""
        found = _LINE.fullmatch(raw)
        if found is None:
            return None
        chain = bytes.fromhex(found[4].decode())
        return cls(raw, int(found[2]), found[3].decode(), found[1], chain)

    def facts(self) -> Mapping[str, Any]:
        """What the line says beside its form.

        Raises:
            ValueError: it is no JSON object.
        """
        return dict(json.loads(self.raw))

    def follows(self, before: Link) -> bool:
        """Whether it is the unchanged record after `before`."""
        return self.seq == before.seq + 1 and before.next(self.content).chain == self.chain

    def follows_under_another_number(self, before: Link) -> bool:
        """Whether it would be that record if only its `seq` were right."""
        start = b'{"seq":'
        rest = self.content[self.content.index(b",") :]
        return before.next(b"%b%d%b" % (start, before.seq + 1, rest)).chain == self.chain


def facts_of(facts: Mapping[str, Fact]) -> str:
    """Facts as they stand in a line, each after a comma."""
    if not facts:
        return ""
    return "," + canonical(facts)[1:-1]


def canonical(value: object) -> str:
    """The one spelling of a value in JSON: ASCII, no spaces, in the order given."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def signature_facts(
    caller: str, key_id: bytes, purpose: str, scheme: str, message: bytes, result: str
) -> str:
    """The facts of one request to sign. Of the message only its hash is kept.

    Spelled out, because this is done for every signature. All texts are ASCII without quotes;
    `caller` is what `caller_facts` returns.
    """
    return (
        f',"caller":{caller},"key_id":"{key_id[:_LONGEST_KEY_ID].hex()}","purpose":"{purpose}"'
        f',"scheme":"{scheme}","message_sha256":"{sha256(message).hexdigest()}"'
        f',"result":"{result}"'
    )


def caller_facts(process: CallingProcess) -> str:
    """Whoever asked, in JSON."""
    return canonical(
        {"uid": process.uid, "pid": process.pid, "executable_sha256": process.executable}
    )


def spelled(moment: datetime) -> str:
    """A moment as records have it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
