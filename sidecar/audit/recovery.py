"""Where an earlier process left the log: what a start goes on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.audit.chain import BadRecord, Chain, Torn
from sidecar.audit.files import files_in, lines_of
from sidecar.audit.record import Link
from sidecar.audit.seal import NO_SEAL


@dataclass(frozen=True)
class Recovered:
    """The end of the log."""

    link: Link = Link()  # frozen
    # The last record that a seal covers, and the chain value of that seal's record.
    sealed: int = 0
    last_seal: str = NO_SEAL
    # Lines that were cut off and that no record speaks of yet.
    torn: Sequence[Torn] = ()
    # What is wrong with the records since the last seal.
    damage: BadRecord | None = None


def recover(directory: Path) -> Recovered:
    """Follows the chain from the last file with a seal to its end. Blocks.

    Whether the seals are signed is for `meshkey audit verify`, with a key from elsewhere.

    Raises:
        OSError: a file cannot be read.
    """
    files = files_in(directory)
    recovered = Recovered()
    for begin in range(len(files) - 1, -1, -1):
        recovered = _followed(files[begin:])
        if recovered.last_seal != NO_SEAL:
            break
    return recovered


def _followed(files: Sequence[Path]) -> Recovered:
    chain, damage, lines = Chain(), None, 0
    for file in files:
        if damage is None:
            try:
                chain.follow(str(file), lines_of(file))
            except BadRecord as bad:
                damage = bad
        lines += sum(1 for _ in lines_of(file))
    link = chain.link
    if damage:
        # Numbers that none of those records has: what comes now is told apart from them.
        link = Link(link.seq + lines, link.chain)
    return Recovered(link, chain.sealed, chain.last_seal, [] if damage else chain.pending, damage)
