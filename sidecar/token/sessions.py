"""One login for the process, a session for each thread, and the way back when they are lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import pkcs11

from sidecar.core.token_selector import TokenSelector
from sidecar.errors import TokenError, TokenUnavailable
from sidecar.token.base import KeyId
from sidecar.token.calls import SignCalls
from sidecar.token.failures import SessionLost, TokenLost, meaning
from sidecar.token.gate import Gate, Hung
from sidecar.token.library import Library
from sidecar.token.login import Login

_T = TypeVar("_T")

# How long a process that stops waits for a module that does not return.
_CLOSE_S = 2.0


@dataclass
class ThreadState:
    """A session serves one thread at a time, so each thread has its own."""

    era: int
    session: pkcs11.Session
    # Where the session is nobody else's and python-pkcs11's handles are the module's own.
    calls: SignCalls | None = None
    # Found through this session, and seen to belong to the expected public key.
    private_keys: dict[KeyId, pkcs11.PrivateKey] = field(default_factory=dict)


class Sessions:
    """Runs operations on a token's sessions. Safe to use from many threads; blocks.

    An era is the time between two starts of the module; a session, and whatever was found
    through it, lives in one era.
    """

    def __init__(self, library: Library, selector: TokenSelector, login: Login) -> None:
        self._library = library
        self._selector = selector
        self._label = selector.label or str(selector)
        self._login = login
        self._gate = Gate()
        self._threads = threading.local()
        # 0 means that there is no usable login.
        self._era = 0
        self._starts = 0
        self._attempts = 0
        self._failure: TokenError | None = None
        self._closed = False
        self._token: pkcs11.Token | None = None
        # Holds the login of the whole process: closing a session that was opened with a PIN
        # logs every other one out, so this one stays open and all others have no PIN.
        self._anchor: pkcs11.Session | None = None
        # Set where the token has one session only: the login's is then everybody's.
        self.shared_anchor = False

    @property
    def label(self) -> str:
        """The token's label, as it was last seen."""
        return self._label

    @property
    def starts(self) -> int:
        """How often the module was started."""
        return self._starts

    @property
    def token(self) -> pkcs11.Token:
        """The token as it was found at the last start."""
        assert self._token is not None
        return self._token

    def start(self) -> None:
        """Starts the module and logs in.

        Raises:
            TokenUnavailable: no such token, or it does not answer.
            LoginRefused: the PIN is wrong or locked.
        """
        self._recover(lost_era=0)

    def use(self, doing: str, operation: Callable[[ThreadState], _T]) -> _T:
        """Runs `operation` with this thread's session.

        What was lost is brought back once: the session alone where that may do, otherwise
        module, login and all. `operation` then runs a second time, so it must be one that
        may. `doing` names it in errors.

        Raises:
            TokenUnavailable: the token cannot be used now.
            TokenError: it answered, and the answer is no.
        """
        era = self._era
        try:
            return self._try(doing, operation)
        except SessionLost:
            self._forget_session()
        except TokenLost:
            self._recover(lost_era=era)
        era = self._era
        try:
            return self._try(doing, operation)
        except (SessionLost, TokenLost) as lost:
            self._forget_session()
            again = lost
        if not isinstance(again, SessionLost):
            raise self._unavailable(doing, again) from again
        # A new session of the same login did not help.
        self._recover(lost_era=era)
        try:
            return self._try(doing, operation)
        except (SessionLost, TokenLost) as lost:
            raise self._unavailable(doing, lost) from lost

    def close(self) -> None:
        """Logs out. The sessions cannot be used afterwards."""
        self._closed = True
        try:
            with self._gate.exclusive(_CLOSE_S):
                self._era, self._anchor, self._token = 0, None, None
                self._library.stop()
        except Hung:
            pass  # a thread is inside the module for good; the process ends without it

    def _try(self, doing: str, operation: Callable[[ThreadState], _T]) -> _T:
        with self._gate.shared():
            try:
                return operation(self._thread_state())
            except pkcs11.PKCS11Error as error:
                raise meaning(error, self._label, doing) from error

    def _thread_state(self) -> ThreadState:
        state: ThreadState | None = getattr(self._threads, "state", None)
        if state is None or state.era != self._era:
            if not self._era or self._token is None or self._anchor is None:
                raise TokenLost("not logged in")
            session = self._anchor if self.shared_anchor else self._token.open(rw=True)
            calls = None if self.shared_anchor else self._library.sign_calls
            state = self._threads.state = ThreadState(self._era, session, calls)
        return state

    def _forget_session(self) -> None:
        state: ThreadState | None = getattr(self._threads, "state", None)
        self._threads.state = None
        if state is None or state.session is self._anchor:
            return
        with self._gate.shared():
            if state.era == self._era:
                # It was lost, which is why it is forgotten: closing it may fail.
                with suppress(pkcs11.PKCS11Error):
                    state.session.close()

    def _recover(self, lost_era: int) -> None:
        seen = self._attempts
        with self._gate.exclusive():
            if self._era and self._era != lost_era:
                return  # another thread brought it back while this one waited
            if self._attempts != seen and self._failure is not None:
                raise self._failure  # ... or just found that it is still gone
            self._attempts += 1
            self._era = 0
            try:
                self._log_in()
                self._failure = None
            except TokenError as failure:
                self._failure = failure
                raise

    def _log_in(self) -> None:
        if self._closed:
            raise TokenUnavailable(f"token {self._label!r} is closed: this process is stopping")
        self._login.prepare()
        self._anchor = self._token = None
        if self._starts:
            self._library.stop()
        self._library.start()
        self._starts += 1
        try:
            self._token = self._library.token(self._selector)
            self._label = self._token.label
            self._anchor = self._login.open(self._token)
        except pkcs11.PKCS11Error as error:
            raise TokenUnavailable(f"token {self._label!r}: {type(error).__name__}") from error
        self._era = self._starts

    def _unavailable(self, doing: str, lost: Exception) -> TokenUnavailable:
        return TokenUnavailable(f"token {self._label!r} is lost: {doing} gave {lost}")
