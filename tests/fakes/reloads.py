"""A process whose configuration never changes, or one that says what a test wants."""

from __future__ import annotations

from sidecar.admin.base import Reloaded
from sidecar.errors import MeshkeyError


class FakeReloads:
    """`Reloads`."""

    def __init__(self) -> None:
        self.answer: Reloaded | MeshkeyError = Reloaded((), "00")

    async def reload(self) -> Reloaded:
        if isinstance(self.answer, MeshkeyError):
            raise self.answer
        return self.answer
