"""One login for the process, a session for each thread, and the way back when they are lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import pkcs11
import structlog

from sidecar.core.token_selector import TokenSelector
from sidecar.errors import LoginRefused, MeshkeyError, TokenUnavailable
from sidecar.token.base import KeyId
from sidecar.token.calls import SignCalls
from sidecar.token.failures import Lost, SessionLost, TokenLost, meaning
from sidecar.token.gate import Gate, Hung
from sidecar.token.library import Library
from sidecar.token.login import Login

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

# How long a process that stops waits for a module that does not return; whoever has threads
# in there has waited for them before.
_CLOSE_S = 0.5
# How long a restart waits until everyone has left the module, while nobody may enter it: what
# a thread that hangs costs the others. Below what callers wait for a signature.
_RESTART_S = 5.0


@dataclass(frozen=True)
class SeenKey:
    """A private key that was found through a session and belongs to the expected public key."""

    private: pkcs11.PrivateKey
    # When a signature with it was verified last, by `time.monotonic`.
    verified: float


@dataclass
class ThreadState:
    """A session serves one thread at a time, so each thread has its own."""

    era: int
    session: pkcs11.Session
    # Where the session is nobody else's and python-pkcs11's handles are the module's own.
    calls: SignCalls | None = None
    private_keys: dict[KeyId, SeenKey] = field(default_factory=dict)
    # Whether the module was started anew for this very operation.
    sure: bool = False


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
        self._failure: MeshkeyError | None = None
        self._closed = False
        self._token: pkcs11.Token | None = None
        # Holds the login of the whole process: closing a session that was opened with a PIN
        # logs every other one out, so this one stays open and all others have no PIN.
        self._anchor: pkcs11.Session | None = None
        # What C_GetSessionInfo said right after the login.
        self._logged_in: int | None = None
        # Where there is no other session, the login's is everybody's: one thread at a time.
        self._one_session = False
        self._turn = threading.Lock()
        # A PIN that was refused while it was used: nothing is tried any more.
        self._refusal: LoginRefused | None = None

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

    def look(self, operation: Callable[[pkcs11.Session], _T]) -> _T:
        """Runs a first look with the login's session, before any thread has one; only once.

        A session for it would stay open and be missing from the token's limit ever after.

        Raises:
            MeshkeyError: as `use`.
        """
        with self._gate.shared():
            try:
                assert self._anchor is not None
                return operation(self._anchor)
            except pkcs11.PKCS11Error as error:
                raise self._unavailable("a look at it", error) from error

    def use(self, doing: str, operation: Callable[[ThreadState], _T]) -> _T:
        """Runs `operation` with this thread's session.

        What was lost is brought back: the session alone where that may do, otherwise module,
        login and all, each once. `operation` then runs again, so it must be one that may.
        `doing` names it in errors.

        Raises:
            TokenUnavailable: the token cannot be used now.
            TokenError: it answered, and the answer is no.
            SignerBusy: it works on too much at once.
        """
        renewed = restarted = False
        while True:
            try:
                return self._try(doing, operation, sure=restarted)
            except Lost as lost:
                self._forget_session()
                if isinstance(lost, SessionLost) and not renewed:
                    renewed = True
                elif restarted:
                    raise self._unavailable(doing, lost) from lost
                else:
                    self._recover(lost.era)
                    restarted = True

    def require_login(self, state: ThreadState) -> None:
        """Raises `TokenLost` if somebody else in this process logged out.

        Then private keys cannot be found, and nobody may conclude that they are not there.
        """
        seen = self._library.session_state(state.session.handle)
        if None not in {seen, self._logged_in} and seen != self._logged_in:
            raise TokenLost("somebody logged out")

    def close(self) -> None:
        """Logs out. The sessions cannot be used afterwards."""
        self._closed = True
        try:
            with self._gate.exclusive(_CLOSE_S):
                self._era, self._anchor, self._token = 0, None, None
                self._library.stop()
        except Hung:
            pass  # a thread is inside the module for good; the process ends without it

    def _try(self, doing: str, operation: Callable[[ThreadState], _T], *, sure: bool) -> _T:
        if self._closed:
            raise TokenUnavailable(f"token {self._label!r} is closed: this process is stopping")
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)
        with self._gate.shared():
            try:
                state = self._thread_state()
                state.sure = sure
                with self._turn if state.session is self._anchor else nullcontext():
                    return operation(state)
            except Lost as lost:
                lost.era = self._era
                raise
            except pkcs11.PKCS11Error as error:
                meant = meaning(error, self._label, doing)
                if isinstance(meant, Lost):
                    meant.era = self._era
                if isinstance(meant, LoginRefused):
                    self._refusal = meant
                raise meant from error

    def _thread_state(self) -> ThreadState:
        state: ThreadState | None = getattr(self._threads, "state", None)
        if state is None or state.era != self._era:
            if not self._era or self._token is None or self._anchor is None:
                raise TokenLost("not logged in")
            session = None if self._one_session else self._another(self._token)
            state = self._threads.state = ThreadState(
                self._era, session or self._anchor, self._library.sign_calls
            )
        return state

    def _another(self, token: pkcs11.Token) -> pkcs11.Session | None:
        """A session more; `None` if the token has no more now."""
        try:
            return token.open(rw=True)
        except (pkcs11.SessionCount, pkcs11.DeviceMemory) as error:
            # Until the next restart. Other processes may have taken them, or the limit is not
            # told: whatever it is, a thread that could do nothing would fail what it takes on.
            log.warning(
                "no session for each thread: some take turns; lower token.threads",
                token=self._label,
                error=type(error).__name__,
            )
            return None

    def _forget_session(self) -> None:
        state: ThreadState | None = getattr(self._threads, "state", None)
        self._threads.state = None
        if state is None:
            return
        with self._gate.shared():
            if state.era == self._era and state.session is not self._anchor:
                # It was lost, which is why it is forgotten: closing it may fail.
                with suppress(pkcs11.PKCS11Error):
                    state.session.close()

    def _recover(self, lost_era: int) -> None:
        seen = self._attempts
        try:
            with self._gate.exclusive(_RESTART_S):
                if self._era and self._era != lost_era:
                    return  # another thread brought it back while this one waited
                if self._attempts != seen and self._failure is not None:
                    # ... or just found that it is still gone
                    raise self._failure.with_traceback(None)
                self._attempts += 1
                self._restart()
        except Hung:
            raise TokenUnavailable(
                f"token {self._label!r} is lost, and its module does not return from a call"
            ) from None

    def _restart(self) -> None:
        self._era, self._failure = 0, None
        try:
            self._log_in()
        except MeshkeyError as failure:
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
            self._one_session = self._library.session_limit(self._token.slot.slot_id) == 1
            self._anchor = self._login.open(self._token)
        except pkcs11.PKCS11Error as error:
            raise self._unavailable("the login", error) from error
        self._logged_in = self._library.session_state(self._anchor.handle)
        self._era = self._starts

    def _unavailable(self, doing: str, error: Exception) -> TokenUnavailable:
        # What PKCS#11 does not define, and what was classified, says more in its text.
        what = str(error) or type(error).__name__
        return TokenUnavailable(f"token {self._label!r} is lost: {doing} gave {what}")
