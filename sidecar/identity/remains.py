"""What is left on the token of what was ended: destroyed, and looked for once more."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sidecar.core.key_label import TLS, KeyLabel
from sidecar.errors import MeshkeyError
from sidecar.identity.destruction import Destruction
from sidecar.token.base import KeyId, Token
from sidecar.token.executor import TokenExecutor


@dataclass(frozen=True)
class Cleared:
    """What became of keys that were to go."""

    # A search after their destruction found them no more.
    destroyed: tuple[KeyId, ...] = ()
    # Not ours to destroy, and still there.
    spared: tuple[KeyId, ...] = ()
    # What could not be done, for people; nothing: all was.
    problems: tuple[str, ...] = ()


class Remains:
    """The keys of one identity on the token."""

    def __init__(
        self,
        owner: str,
        given: KeyId | None,
        token: Token,
        executor: TokenExecutor,
        destruction: Destruction,
    ) -> None:
        """`owner` is the mark on its keys. `given`, whatever its mark, is never destroyed."""
        self._owner = owner
        self._given = given
        self._token = token
        self._executor = executor
        self._destruction = destruction

    async def clear(self, key_ids: Collection[KeyId], foreign: Collection[KeyId] = ()) -> Cleared:
        """Destroys `key_ids`, but for what was given, or is `foreign`: another key of that name.

        Never raises for a token that fails.
        """
        spared = tuple(key for key in key_ids if key == self._given or key in foreign)
        wanted = [key for key in key_ids if key not in spared]
        await self._destruction.destroy(*wanted, gone=await self._gone(wanted))
        try:
            there = await self._executor.run(self._token.labels)
        except MeshkeyError as error:
            return Cleared((), spared, (f"not known which keys are left on the token: {error}",))
        left = [key for key in wanted if key in there]
        return Cleared(
            tuple(key for key in wanted if key not in there),
            tuple(key for key in spared if key in there),
            tuple(f"key {key} is still on the token; see the log" for key in left),
        )

    async def clear_all(
        self, key_ids: Collection[KeyId], foreign: Collection[KeyId] = ()
    ) -> Cleared:
        """The same with every key that has the identity's mark, of earlier starts too."""
        given = [self._given] if self._given else []
        try:
            marked = await self.marked()
        except MeshkeyError:
            marked = []  # the search that follows says it
        return await self.clear(dict.fromkeys([*key_ids, *marked, *given]), foreign)

    async def marked(self) -> list[KeyId]:
        """Every key on the token that has the identity's mark.

        Raises:
            MeshkeyError: the token cannot be searched.
        """
        labels = await self._executor.run(self._token.labels)
        return [key for key, text in labels.items() if self._has_mark(text)]

    async def _gone(self, key_ids: Collection[KeyId]) -> list[KeyId]:
        """Those that a search does not find."""
        try:
            there = await self._executor.run(self._token.labels)
        except MeshkeyError:
            return []
        return [key for key in key_ids if key not in there]

    def _has_mark(self, label: str) -> bool:
        parsed = KeyLabel.parse(label)
        return parsed is not None and (parsed.purpose, parsed.owner) == (TLS, self._owner)
