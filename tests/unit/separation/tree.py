"""A tree of directories and files that are nowhere, with any owner."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

# Mode, owner and group.
Entry: TypeAlias = tuple[int, int, int]

# Numbers that have no name on any machine.
ROOT, OURS, CALLER, STRANGER = 0, 3_999_999_990, 3_999_999_991, 3_999_999_992
CALLERS = 3_999_999_993


class Tree:
    """What is not named is a directory of root's that everybody may enter."""

    def __init__(self, entries: Mapping[str, Entry], *, files: tuple[str, ...] = ()) -> None:
        self._entries = entries
        self._files = files

    def look(self, path: Path) -> os.stat_result:
        mode, uid, gid = self._entries.get(str(path), (0o755, ROOT, ROOT))
        kind = stat.S_IFREG if str(path) in self._files else stat.S_IFDIR
        return status(kind | mode, uid, gid)


def status(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))
