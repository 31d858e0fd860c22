"""Starts a PKCS#11 module so that threads may share it (PKCS#11 v2.40 section 5.4)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pkcs11
from pkcs11 import _pkcs11

from sidecar.core.token_selector import TokenDescription, TokenSelector
from sidecar.errors import ConfigurationError, TokenUnavailable
from sidecar.token.calls import SIGN, SIGN_INIT, SignCalls

_CKF_OS_LOCKING_OK = 2
_CKR_OK = 0
_CKR_ALREADY_INITIALIZED = 0x191
# CK_EFFECTIVELY_INFINITE and CK_UNAVAILABLE_INFORMATION.
_NO_LIMIT = {0, ctypes.c_ulong(-1).value}


class _InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS: no mutex callbacks of ours, the OS's locks instead."""

    _fields_ = [
        ("CreateMutex", ctypes.c_void_p),
        ("DestroyMutex", ctypes.c_void_p),
        ("LockMutex", ctypes.c_void_p),
        ("UnlockMutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("pReserved", ctypes.c_void_p),
    ]


class _FunctionList(ctypes.Structure):
    """The head of CK_FUNCTION_LIST, as far as it is used here."""

    _fields_ = [
        ("version", ctypes.c_ubyte * 2),
        ("C_Initialize", ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)),
        ("C_Finalize", ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)),
        ("C_GetInfo", ctypes.c_void_p),
        ("C_GetFunctionList", ctypes.c_void_p),
        ("C_GetSlotList", ctypes.c_void_p),
        ("C_GetSlotInfo", ctypes.c_void_p),
        ("C_GetTokenInfo", ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p)),
        ("not_used", ctypes.c_void_p * 8),
        ("C_GetSessionInfo", ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p)),
        ("from_C_GetOperationState_to_C_DigestFinal", ctypes.c_void_p * 26),
        ("C_SignInit", SIGN_INIT),
        ("C_Sign", SIGN),
    ]


class _TokenInfo(ctypes.Structure):
    """CK_TOKEN_INFO: python-pkcs11 leaves the session counts out."""

    _fields_ = [
        ("texts", ctypes.c_char * (32 + 32 + 16 + 16)),
        ("flags", ctypes.c_ulong),
        ("ulMaxSessionCount", ctypes.c_ulong),
        ("ulSessionCount", ctypes.c_ulong),
        ("others", ctypes.c_ulong * 8),
        ("versions", ctypes.c_ubyte * 4),
        ("utcTime", ctypes.c_char * 16),
    ]


class _SessionInfo(ctypes.Structure):
    """CK_SESSION_INFO."""

    _fields_ = [
        ("slotID", ctypes.c_ulong),
        ("state", ctypes.c_ulong),
        ("flags", ctypes.c_ulong),
        ("ulDeviceError", ctypes.c_ulong),
    ]


class _StartedLibrary(_pkcs11.lib):
    """python-pkcs11's view of a module that was started by `Library`.

    Left to itself it calls C_Initialize(NULL), which tells the module that there is one
    thread, and then releases the GIL around calls: keys and sessions get corrupted.
    """

    def initialize(self) -> None:
        """Nothing to do: `Library` did it."""


class Library:
    """One PKCS#11 module in this process. Never fork after `start`."""

    def __init__(self, module: Path) -> None:
        self._module = module
        self._functions = _function_list(module)
        # p11-kit-client.so makes a new instance, not started, for whoever asks. Only
        # python-pkcs11 can start the one that it uses; its C_Initialize(NULL) does no harm
        # there, for this module locks in any case.
        self._shared = _address(self._functions) == _address(_function_list(module))
        self._view: _pkcs11.lib | None = None
        # What python-pkcs11 holds handles of must be the module that is called.
        self.sign_calls = (
            SignCalls(self._functions.C_SignInit, self._functions.C_Sign) if self._shared else None
        )

    def start(self) -> None:
        """C_Initialize. Forgets every session and login of before.

        Raises:
            TokenUnavailable: the module refused.
        """
        try:
            if self._shared:
                self._start_shared()
            else:
                # A new instance each time: one that met no server says so for ever.
                self._view = _pkcs11.lib(str(self._module))
        except pkcs11.PKCS11Error as error:
            raise TokenUnavailable(
                f"module {self._module} does not start: {type(error).__name__}"
            ) from error

    def stop(self) -> None:
        """C_Finalize. No other thread may be inside the module."""
        if self._shared:
            self._functions.C_Finalize(None)
        elif self._view is not None:
            # What it stops may be gone already.
            with suppress(pkcs11.PKCS11Error):
                self._view.finalize()

    @property
    def name(self) -> str:
        """The module's file name, by which profiles know it."""
        return self._module.name

    @property
    def description(self) -> str:
        """What the module says of itself (C_GetInfo)."""
        assert self._view is not None
        version = ".".join(map(str, self._view.library_version))
        named = f"{self._view.manufacturer_id} {self._view.library_description}".strip()
        return f"{named} {version}"

    def session_limit(self, slot_id: int) -> int | None:
        """How many sessions the token in a slot has in all; `None` where it does not say."""
        return self._count(slot_id, "ulMaxSessionCount")

    def session_count(self, slot_id: int) -> int | None:
        """How many of them are open; `None` where the token does not say."""
        return self._count(slot_id, "ulSessionCount")

    def _count(self, slot_id: int, name: str) -> int | None:
        info = _TokenInfo()
        code = self._functions.C_GetTokenInfo(slot_id, ctypes.addressof(info))
        count = int(getattr(info, name))
        return None if code != _CKR_OK or count in _NO_LIMIT else count

    def session_state(self, session: int) -> int | None:
        """Who is logged in, as an open session has it (CK_STATE); `None` if it does not say."""
        info = _SessionInfo()
        code = self._functions.C_GetSessionInfo(session, ctypes.addressof(info))
        return None if code != _CKR_OK else int(info.state)

    def token(self, selector: TokenSelector) -> pkcs11.Token:
        """The one token that `selector` matches.

        Raises:
            TokenUnavailable: there is none, or more than one.
        """
        assert self._view is not None
        tokens = [(describe(token), token) for token in self._view.get_tokens()]
        found = [token for description, token in tokens if selector.matches(description)]
        if len(found) == 1:
            return found[0]
        there = _listed(selector, [description for description, _ in tokens])
        raise TokenUnavailable(
            f"module {self._module} has {len(found)} tokens {selector}, one is needed; "
            f"it has: {there or 'none'}; set token.label or token.uri"
        )

    def _start_shared(self) -> None:
        arguments = _InitializeArgs(flags=_CKF_OS_LOCKING_OK)
        code = self._functions.C_Initialize(ctypes.addressof(arguments))
        if code not in {_CKR_OK, _CKR_ALREADY_INITIALIZED}:
            raise TokenUnavailable(f"module {self._module}: C_Initialize failed with 0x{code:x}")
        if self._view is None:
            self._view = _StartedLibrary(str(self._module))


def describe(token: pkcs11.Token) -> TokenDescription:
    """What C_GetTokenInfo said of `token`."""
    return TokenDescription(
        label=token.label,
        serial=token.serial.decode(errors="replace").rstrip("\0 "),
        manufacturer=token.manufacturer_id,
        model=token.model,
        slot_id=token.slot.slot_id,
    )


def _listed(selector: TokenSelector, there: Sequence[TokenDescription]) -> str:
    if selector == TokenSelector(label=selector.label or ""):
        return ", ".join(sorted({token.label for token in there if token.label}))
    # A slot that waits for C_InitToken has a token without a label, which may be asked for.
    return ", ".join(map(str, there))


def _address(functions: _FunctionList) -> int:
    return ctypes.addressof(functions)


def _function_list(module: Path) -> _FunctionList:
    if not module.is_file():
        raise ConfigurationError(f"PKCS#11 module {module} does not exist; set token.module")
    try:
        entry = ctypes.CDLL(str(module)).C_GetFunctionList
    except OSError as error:
        raise ConfigurationError(
            f"PKCS#11 module {module} cannot be loaded: {error}; set token.module"
        ) from error
    except AttributeError:
        raise ConfigurationError(
            f"{module} is not a PKCS#11 module (no C_GetFunctionList); set token.module"
        ) from None
    functions = ctypes.POINTER(_FunctionList)()
    code = entry(ctypes.byref(functions))
    if code != _CKR_OK:
        raise ConfigurationError(f"PKCS#11 module {module}: C_GetFunctionList gave 0x{code:x}")
    return functions.contents
