"""The way to a file, step by step: whoever may change one of them decides what the file is."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

# os.lstat, or what a test says instead.
Look: TypeAlias = Callable[[Path], os.stat_result]
# As the kernel follows (path_resolution(7)).
_MOST_LINKS = 40


@dataclass(frozen=True)
class Step:
    """A directory or a symbolic link on the way, or what is at its end."""

    path: Path
    status: os.stat_result

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def mode(self) -> int:
        """Permissions, and the sticky bit."""
        return stat.S_IMODE(self.status.st_mode)


@dataclass(frozen=True)
class Way:
    """The steps above a file, and the file; `None` if it is not there, or not to be seen."""

    above: Sequence[Step]
    end: Step | None


def way_seen(path: Path, look: Look = os.lstat) -> Way:
    """The way to the absolute `path`, as far as there is one. Blocks."""
    steps: list[Step] = []
    try:
        for step in way_to(path, look):
            steps.append(step)  # those before an error count
    except OSError:
        return Way(steps, None)
    return Way(steps[:-1], steps[-1])


def way_to(path: Path, look: Look = os.lstat) -> Iterator[Step]:
    """From / to what the absolute `path` leads to, which comes last. Blocks.

    Links are steps, and so is what they lead through. Raises `OSError` where it ends early.
    """
    here = Path("/")
    yield Step(here, look(here))
    ahead, links = list(path.parts[1:]), 0
    while ahead:
        name = ahead.pop(0)
        if name == "..":
            here = here.parent
            continue
        step = Step(here / name, look(here / name))
        yield step
        if not step.is_link:
            here = step.path
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = step.path.readlink()
        ahead = [*target.parts, *ahead]
        if target.is_absolute():
            here, ahead = Path("/"), ahead[1:]
