"""Every CK_RV from every function that matters: what follows, on the real SoftHSM2.

The shim answers with the code in SoftHSM2's place, once; then SoftHSM2 is itself again. So
whatever is tried a second time works, and an error proves that nothing was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from sidecar.core.public_key import verify
from sidecar.demo.softhsm import SoftHsmStore
from sidecar.errors import (
    LoginRefused,
    MechanismMissing,
    PinLocked,
    PinRefused,
    SignerBusy,
    TokenError,
    TokenFull,
    TokenUnavailable,
)
from sidecar.token.base import TokenKey
from sidecar.token.login import Login
from sidecar.token.pin_sources import PinFile
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import SOFTHSM2
from tests.conftest import MESH
from tests.e2e.shim import Shim
from tests.fixtures.requests import ALGORITHM, SCHEME
from tests.fixtures.waiting import BOUND_S, eventually

ANSWER, MISSING, SESSION, TOKEN, FULL, BUSY, REFUSED, LOCKED = (
    TokenError,
    MechanismMissing,
    "a new session",
    "a restart",
    TokenFull,
    SignerBusy,
    PinRefused,
    PinLocked,
)
# PKCS#11 v2.40 and, from 0x201 on, v3.0 and v3.1: all codes that a function may return.
MEANINGS: dict[int, object] = {
    0x00000001: TOKEN,  # CANCEL
    0x00000002: TOKEN,  # HOST_MEMORY
    0x00000003: TOKEN,  # SLOT_ID_INVALID
    0x00000005: TOKEN,  # GENERAL_ERROR
    0x00000006: TOKEN,  # FUNCTION_FAILED
    0x00000007: ANSWER,  # ARGUMENTS_BAD
    0x00000008: TOKEN,  # NO_EVENT
    0x00000009: TOKEN,  # NEED_TO_CREATE_THREADS
    0x0000000A: TOKEN,  # CANT_LOCK
    0x00000010: ANSWER,  # ATTRIBUTE_READ_ONLY
    0x00000011: ANSWER,  # ATTRIBUTE_SENSITIVE
    0x00000012: ANSWER,  # ATTRIBUTE_TYPE_INVALID
    0x00000013: ANSWER,  # ATTRIBUTE_VALUE_INVALID
    0x0000001B: ANSWER,  # ACTION_PROHIBITED
    0x00000020: ANSWER,  # DATA_INVALID
    0x00000021: ANSWER,  # DATA_LEN_RANGE
    0x00000030: TOKEN,  # DEVICE_ERROR
    0x00000031: FULL,  # DEVICE_MEMORY
    0x00000032: TOKEN,  # DEVICE_REMOVED
    0x00000040: ANSWER,  # ENCRYPTED_DATA_INVALID
    0x00000041: ANSWER,  # ENCRYPTED_DATA_LEN_RANGE
    0x00000050: ANSWER,  # FUNCTION_CANCELED
    0x00000051: TOKEN,  # FUNCTION_NOT_PARALLEL
    0x00000054: MISSING,  # FUNCTION_NOT_SUPPORTED
    0x00000060: SESSION,  # KEY_HANDLE_INVALID
    0x00000062: ANSWER,  # KEY_SIZE_RANGE
    0x00000063: ANSWER,  # KEY_TYPE_INCONSISTENT
    0x00000064: ANSWER,  # KEY_NOT_NEEDED
    0x00000065: ANSWER,  # KEY_CHANGED
    0x00000066: ANSWER,  # KEY_NEEDED
    0x00000067: ANSWER,  # KEY_INDIGESTIBLE
    0x00000068: ANSWER,  # KEY_FUNCTION_NOT_PERMITTED
    0x00000069: ANSWER,  # KEY_NOT_WRAPPABLE
    0x0000006A: ANSWER,  # KEY_UNEXTRACTABLE
    0x00000070: MISSING,  # MECHANISM_INVALID
    0x00000071: MISSING,  # MECHANISM_PARAM_INVALID
    0x00000082: SESSION,  # OBJECT_HANDLE_INVALID
    0x00000090: SESSION,  # OPERATION_ACTIVE
    0x00000091: SESSION,  # OPERATION_NOT_INITIALIZED
    0x000000A0: REFUSED,  # PIN_INCORRECT
    0x000000A1: REFUSED,  # PIN_INVALID
    0x000000A2: REFUSED,  # PIN_LEN_RANGE
    0x000000A3: REFUSED,  # PIN_EXPIRED
    0x000000A4: LOCKED,  # PIN_LOCKED
    0x000000B0: SESSION,  # SESSION_CLOSED
    0x000000B1: BUSY,  # SESSION_COUNT
    0x000000B3: SESSION,  # SESSION_HANDLE_INVALID
    0x000000B4: TOKEN,  # SESSION_PARALLEL_NOT_SUPPORTED
    0x000000B5: ANSWER,  # SESSION_READ_ONLY
    0x000000B6: TOKEN,  # SESSION_EXISTS
    0x000000B7: TOKEN,  # SESSION_READ_ONLY_EXISTS
    0x000000B8: TOKEN,  # SESSION_READ_WRITE_SO_EXISTS
    0x000000C0: ANSWER,  # SIGNATURE_INVALID
    0x000000C1: ANSWER,  # SIGNATURE_LEN_RANGE
    0x000000D0: ANSWER,  # TEMPLATE_INCOMPLETE
    0x000000D1: ANSWER,  # TEMPLATE_INCONSISTENT
    0x000000E0: TOKEN,  # TOKEN_NOT_PRESENT
    0x000000E1: TOKEN,  # TOKEN_NOT_RECOGNIZED
    0x000000E2: ANSWER,  # TOKEN_WRITE_PROTECTED
    0x000000F0: SESSION,  # UNWRAPPING_KEY_HANDLE_INVALID
    0x000000F1: ANSWER,  # UNWRAPPING_KEY_SIZE_RANGE
    0x000000F2: ANSWER,  # UNWRAPPING_KEY_TYPE_INCONSISTENT
    0x00000100: TOKEN,  # USER_ALREADY_LOGGED_IN
    0x00000101: TOKEN,  # USER_NOT_LOGGED_IN
    0x00000102: TOKEN,  # USER_PIN_NOT_INITIALIZED
    0x00000103: TOKEN,  # USER_TYPE_INVALID
    0x00000104: TOKEN,  # USER_ANOTHER_ALREADY_LOGGED_IN
    0x00000105: TOKEN,  # USER_TOO_MANY_TYPES
    0x00000110: ANSWER,  # WRAPPED_KEY_INVALID
    0x00000112: ANSWER,  # WRAPPED_KEY_LEN_RANGE
    0x00000113: SESSION,  # WRAPPING_KEY_HANDLE_INVALID
    0x00000114: ANSWER,  # WRAPPING_KEY_SIZE_RANGE
    0x00000115: ANSWER,  # WRAPPING_KEY_TYPE_INCONSISTENT
    0x00000120: MISSING,  # RANDOM_SEED_NOT_SUPPORTED
    0x00000121: MISSING,  # RANDOM_NO_RNG
    0x00000130: ANSWER,  # DOMAIN_PARAMS_INVALID
    0x00000140: MISSING,  # CURVE_NOT_SUPPORTED
    0x00000150: ANSWER,  # BUFFER_TOO_SMALL
    0x00000160: TOKEN,  # SAVED_STATE_INVALID
    0x00000170: ANSWER,  # INFORMATION_SENSITIVE
    0x00000180: TOKEN,  # STATE_UNSAVEABLE
    0x00000190: TOKEN,  # CRYPTOKI_NOT_INITIALIZED
    0x00000191: TOKEN,  # CRYPTOKI_ALREADY_INITIALIZED
    0x000001A0: TOKEN,  # MUTEX_BAD
    0x000001A1: TOKEN,  # MUTEX_NOT_LOCKED
    0x000001B0: TOKEN,  # NEW_PIN_MODE
    0x000001B1: TOKEN,  # NEXT_OTP
    0x000001B5: ANSWER,  # EXCEEDED_MAX_ITERATIONS
    0x000001B6: TOKEN,  # FIPS_SELF_TEST_FAILED
    0x000001B7: TOKEN,  # LIBRARY_LOAD_FAILED
    0x000001B8: ANSWER,  # PIN_TOO_WEAK
    0x000001B9: ANSWER,  # PUBLIC_KEY_INVALID
    0x00000200: ANSWER,  # FUNCTION_REJECTED
    0x00000201: BUSY,  # TOKEN_RESOURCE_EXCEEDED
    0x00000202: TOKEN,  # OPERATION_CANCEL_FAILED
    0x00000203: ANSWER,  # KEY_EXHAUSTED
    0x80000001: TOKEN,  # defined by a vendor
}
# Where memory is short and no key is made, the token has too much to do.
BUSY_WITHOUT_MEMORY = {"C_SignInit", "C_Sign", "C_FindObjectsInit"}
NO_MORE_SESSIONS = {0x31, 0xB1}
WRONG_PIN = {0xA0, 0xA1, 0xA2, 0xA3, 0xA4}


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    return Shim.build(tmp_path_factory.mktemp("shim"))


class _World:
    """A token behind the shim, with a key on it."""

    def __init__(self, shim: Shim, store: SoftHsmStore) -> None:
        login = Login(PinFile(store.directory / "mesh.pin"))
        self.shim = shim
        self.token = Pkcs11Token.open(shim.module, MESH, login, SOFTHSM2)
        self.key = self.token.generate(ALGORITHM, "web")
        self.token.sign(self.key.id, SCHEME, b"m")

    @property
    def starts(self) -> int:
        return self.token._sessions.starts

    def sign(self) -> None:
        """Fails unless a right signature comes out."""
        verify(
            self.key.public_key,
            SCHEME,
            self.token.sign(self.key.id, SCHEME, b"message"),
            b"message",
        )

    def sign_with_a_new_session(self) -> None:
        self.token._sessions._forget_session()
        self.sign()

    def generate(self) -> None:
        made: TokenKey = self.token.generate(ALGORITHM, "new")
        self.token.destroy(made.id)


@pytest.fixture(scope="module")
def _shared(shim: Shim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_World]:
    """One token for all codes: after each the world must be as it was."""
    store = SoftHsmStore.create(Path(tmp_path_factory.mktemp("softhsm")) / "store")
    store.initialise("mesh")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**store.environment, **shim.environment}.items():
            patch.setenv(name, value)
        shim.rule()
        made = _World(shim, store)
        yield made
        shim.rule()
        made.token.close()


@pytest.fixture
def world(_shared: _World) -> Iterator[_World]:
    _shared.sign()
    yield _shared
    _shared.shim.rule()
    _shared.token._sessions._refusal = None
    _shared.sign()


CALLS: dict[str, Callable[[_World], None]] = {
    "C_SignInit": _World.sign,
    "C_Sign": _World.sign,
    "C_FindObjectsInit": _World.sign_with_a_new_session,
    "C_OpenSession": _World.sign_with_a_new_session,
    "C_GenerateKeyPair": _World.generate,
}


@pytest.mark.parametrize("function", CALLS)
@pytest.mark.parametrize("code", MEANINGS, ids=hex)
def test_what_follows_from_a_code(world: _World, code: int, function: str) -> None:
    expected, call, starts = MEANINGS[code], CALLS[function], world.starts
    if expected is FULL and function in BUSY_WITHOUT_MEMORY:
        expected = BUSY
    if function == "C_OpenSession" and code in NO_MORE_SESSIONS:
        expected = "no restart"  # the login's session does
    world.shim.rule(f"{function} fail 0x{code:x} times 1")
    if isinstance(expected, type):
        with pytest.raises(expected) as raised:
            call(world)
        assert type(raised.value) is expected
    else:
        call(world)
    assert world.starts - starts == (expected == TOKEN)


@pytest.mark.parametrize("code", MEANINGS, ids=hex)
def test_a_login_that_fails_during_recovery_is_tried_again_unless_it_was_about_the_pin(
    shim: Shim, world: _World, code: int
) -> None:
    starts = world.starts
    # As when a token goes and comes back with something else to say.
    shim.rule("C_Sign fail 0x32 times 1", f"C_Login fail 0x{code:x} times 1")
    refused = code in WRONG_PIN
    with pytest.raises(LoginRefused if refused else TokenUnavailable):
        world.sign()
    assert world.starts == starts + 1
    if refused:
        with pytest.raises(LoginRefused):
            world.sign()
        assert world.starts == starts + 1, "not even the module is started again"
        world.token._sessions._login._refusal = None
    world.sign()
    assert world.starts == starts + 2


@pytest.mark.parametrize("code", sorted(WRONG_PIN), ids=hex)
def test_a_pin_that_is_refused_while_it_is_used_is_not_tried_into_a_lock(
    shim: Shim, world: _World, code: int
) -> None:
    shim.rule(f"C_SignInit fail 0x{code:x} times 1", "C_Login fail 0x5")
    for _ in range(3):
        with pytest.raises(LoginRefused):
            world.sign()


# More than one failure in a row


def test_a_session_that_is_lost_again_and_again_leads_to_a_restart(
    shim: Shim, world: _World
) -> None:
    starts = world.starts
    shim.rule("C_SignInit fail 0xb3 times 2")
    world.sign()
    assert world.starts == starts + 1


def test_a_lost_session_behind_which_is_a_lost_token_leads_to_a_restart(
    shim: Shim, world: _World
) -> None:
    starts = world.starts
    # What a token that was pulled and put back says: old handles are bad, the slot has changed.
    shim.rule("C_SignInit fail 0xb3 times 1", "C_OpenSession fail 0xe0 times 1")
    world.sign()
    assert world.starts == starts + 1


def test_a_session_that_is_lost_after_a_restart_is_opened_anew(shim: Shim, world: _World) -> None:
    starts = world.starts
    shim.rule("C_SignInit fail 0x30 times 1", "C_FindObjectsInit fail 0xb3 times 1")
    world.sign()
    assert world.starts == starts + 1


@pytest.mark.parametrize("code", [0x30, 0xB3, 0x80000001], ids=hex)
def test_what_never_works_ends_and_says_so(shim: Shim, world: _World, code: int) -> None:
    shim.rule(f"C_SignInit fail 0x{code:x}")
    starts = world.starts
    for _ in range(3):
        with pytest.raises(TokenUnavailable, match="is lost: signing gave"):
            world.sign()
    assert world.starts <= starts + 3
    shim.rule()
    world.sign()


# Many threads


def test_threads_without_a_session_of_their_own_take_turns(shim: Shim, world: _World) -> None:
    world.token._sessions._recover(world.token._sessions._era)
    shim.rule("C_OpenSession limit 3")
    with _Crew(world) as crew:
        for _ in range(20):
            crew.sign()
        world.generate()


def test_nobody_uses_a_session_while_another_thread_does(shim: Shim, world: _World) -> None:
    world.token._sessions._recover(world.token._sessions._era)
    shim.rule("C_OpenSession limit 1")
    inside: list[object] = []
    most = 0

    def look(state: object) -> None:
        nonlocal most
        inside.append(state)
        for _ in range(50):
            most = max(most, len(inside))
            time.sleep(0)
        inside.remove(state)

    with ThreadPoolExecutor(8) as threads:
        using = [threads.submit(world.token._sessions.use, "a test", look) for _ in range(8)]
    for use in using:
        use.result()
    assert most == 1


class _Crew:
    """Eight threads with a session each, that sign at the same time."""

    def __init__(self, world: _World, threads: int = 8) -> None:
        self._world, self._count = world, threads
        self._together = threading.Barrier(threads)
        self._threads = ThreadPoolExecutor(threads)

    def __enter__(self) -> _Crew:
        self.sign()
        return self

    def __exit__(self, *_: object) -> None:
        for done in self._start(self._world.token._sessions._forget_session):
            done.result(BOUND_S)
        self._threads.shutdown()

    def sign(self, then: str = "") -> None:
        """With a rule that holds from when all are inside."""
        if then:
            self._world.shim.rule("C_Sign hang")
        signing = self._start(self._world.sign)
        if then:
            gate = self._world.token._sessions._gate
            eventually(lambda: gate._users == self._count, "all are inside")
            self._world.shim.rule(then)
        for done in signing:
            done.result(BOUND_S)

    def _start(self, work: Callable[[], None]) -> list[Future[None]]:
        def together() -> None:
            self._together.wait(BOUND_S)
            work()

        return [self._threads.submit(together) for _ in range(self._count)]


def test_eight_threads_that_lose_the_token_together_restart_it_once(world: _World) -> None:
    with _Crew(world) as crew:
        for _ in range(10):
            starts = world.starts
            crew.sign(then="C_Sign fail 0x32 each 1")
            assert world.starts == starts + 1


def test_eight_threads_that_lose_their_sessions_restart_nothing(world: _World) -> None:
    with _Crew(world) as crew:
        starts = world.starts
        for _ in range(10):
            crew.sign(then="C_Sign fail 0xb3 each 1")
        assert world.starts == starts


def test_no_session_is_left_behind(shim: Shim, world: _World) -> None:
    def sessions() -> int:
        token = world.token._sessions.token
        count = world.token._sessions._library.session_count(token.slot.slot_id)
        assert count is not None
        return count

    world.sign()
    before = sessions()
    for rule in ("C_SignInit fail 0x82", "C_Sign fail 0xb3", "C_Sign fail 0x30", "C_Sign fail 0x7"):
        for _ in range(5):
            shim.rule(f"{rule} times 1")
            try:
                world.sign()
            except TokenError:
                world.sign()
    assert sessions() == before
    with _Crew(world):
        assert sessions() == before + 8
    assert sessions() == before
