"""Lets many threads use a module, or one restart it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Condition, Lock


class Hung(Exception):
    """Somebody does not come out of the module."""


class Gate:
    """A lock that is shared by users and exclusive for whoever restarts the module.

    C_Finalize while another thread is inside the module is undefined behaviour
    (PKCS#11 v2.40 section 5.4), so a restart waits until everyone has left.
    """

    def __init__(self) -> None:
        # Taken twice for each signature, so without Condition's own layer of Python.
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._users = 0
        self._closed = False
        self._shared = _Shared(self)

    def shared(self) -> AbstractContextManager[None]:
        """Holds the gate open; many threads at once. Blocks during a restart."""
        return self._shared

    def _enter(self) -> None:
        with self._lock:
            while self._closed:
                self._changed.wait()
            self._users += 1

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            # Otherwise nobody waits for it.
            if self._closed:
                self._changed.notify_all()

    @contextmanager
    def exclusive(self, timeout: float | None = None) -> Iterator[None]:
        """Waits until all have left and keeps them out. Not reentrant.

        Raises:
            Hung: they had not after `timeout` seconds; the gate is open again.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._closed, timeout):
                raise Hung
            self._closed = True
            if not self._changed.wait_for(lambda: not self._users, timeout):
                self._closed = False
                self._changed.notify_all()
                raise Hung
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


class _Shared(AbstractContextManager[None]):
    """A generator's context would take as long as all the rest here."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        self._gate._enter()

    def __exit__(self, *_: object) -> None:
        self._gate._leave()
