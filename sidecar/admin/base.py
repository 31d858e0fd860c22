"""The seam to whoever knows the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Reloaded:
    """What a running process took over."""

    # Names of settings, never their values.
    changed: tuple[str, ...]
    # SHA-256 of the whole configuration, in hexadecimal.
    digest: str


class Reloads(Protocol):
    """Reads the configuration again."""

    async def reload(self) -> Reloaded:
        """Applies all that differs, or nothing.

        Raises:
            ReloadRefused: it is wrong, or something in it needs a restart.
        """
        ...
