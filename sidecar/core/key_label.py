"""What a key on the token is for and whose it is, in its CKA_LABEL."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

# What keys are for.
TLS = "tls"
AUDIT = "audit"
DENY = "deny"
# What a key does that no identity may use, in words.
OTHER_USES = {AUDIT: "seals an audit log", DENY: "signs deny lists"}

_LABEL = re.compile(r"meshkey:(?P<purpose>[a-z]+):(?P<owner>[0-9a-f]{8}):(?P<generation>\d+):(.*)")


@dataclass(frozen=True)
class KeyLabel:
    """`meshkey:<purpose>:<owner>:<generation>:<workload>`.

    What matters comes first: tokens with short labels cut the workload.
    """

    purpose: str
    # Eight hexadecimal digits: the sidecar that made the key, and nobody else destroys it.
    owner: str
    generation: int
    workload: str

    @classmethod
    def parse(cls, text: str) -> KeyLabel | None:
        """`None` for the label of a key that no sidecar made."""
        found = _LABEL.fullmatch(text)
        if not found:
            return None
        return cls(found["purpose"], found["owner"], int(found["generation"]), found[4])

    def __str__(self) -> str:
        return f"meshkey:{self.purpose}:{self.owner}:{self.generation}:{self.workload}"


def owner_of(*parts: str) -> str:
    """The owner's mark: the same in every life of one sidecar, different for any other."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def cut(label: str, longest: int) -> str:
    """`label` in at most so many bytes of UTF-8."""
    return label.encode()[:longest].decode(errors="ignore")
