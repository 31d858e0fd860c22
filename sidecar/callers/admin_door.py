"""Who may give commands."""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.callers.credentials import Credentials
from sidecar.errors import CallerRefused

_ROOT = 0


class AdminDoor:
    """`Door`: for root and the sidecar's own user, unless signatures are made for them too.

    Whoever takes over a process that asks for signatures must not command the sidecar with it,
    even where the socket's mode and directory would let it through.
    """

    def __init__(self, ours: int, callers: Iterable[int], *, allow_own_user: bool) -> None:
        """`callers` are the users of whom rules speak. With `allow_own_user` they may be us."""
        self._commanding = frozenset({_ROOT, ours})
        self._allow_own_user = allow_own_user
        self._callers = frozenset(callers)

    def replace(self, callers: Iterable[int]) -> None:
        """Other users that rules speak of, from the next connection on."""
        self._callers = frozenset(callers)

    def __call__(self, credentials: Credentials) -> None:
        """Raises `CallerRefused` for everybody else."""
        if credentials.uid not in self._commanding:
            raise CallerRefused("only root and the sidecar's own user give commands")
        if credentials.uid in self._callers and not self._allow_own_user:
            raise CallerRefused("a user of whom a [[caller]] speaks gives no commands")
