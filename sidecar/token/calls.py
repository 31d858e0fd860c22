"""A signature in two calls of the module (PKCS#11 v2.40 section 5.11).

python-pkcs11 asks for a signature's length first, which is a third call and a third turn at
the interpreter's lock; between threads, the turns cost more than a fast token's signature.
"""

from __future__ import annotations

import ctypes

import pkcs11

# Above what any scheme here gives: 512 octets of RSA-4096.
LONGEST_SIGNATURE = 1024
_BUFFER_TOO_SMALL = 0x150
_Code = ctypes.c_ulong
# Without the interpreter's lock: a module may take its time, or never return.
SIGN_INIT = ctypes.CFUNCTYPE(_Code, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong)
SIGN = ctypes.CFUNCTYPE(
    _Code,
    ctypes.c_ulong,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_ulong),
)
# What python-pkcs11 raises for them; it has no type of its own for any other.
_ERRORS: dict[int, type[pkcs11.PKCS11Error]] = {
    0x2: pkcs11.HostMemory,
    0x3: pkcs11.SlotIDInvalid,
    0x5: pkcs11.GeneralError,
    0x6: pkcs11.FunctionFailed,
    0x7: pkcs11.ArgumentsBad,
    0x8: pkcs11.NoEvent,
    0x10: pkcs11.AttributeReadOnly,
    0x11: pkcs11.AttributeSensitive,
    0x12: pkcs11.AttributeTypeInvalid,
    0x13: pkcs11.AttributeValueInvalid,
    0x20: pkcs11.DataInvalid,
    0x21: pkcs11.DataLenRange,
    0x30: pkcs11.DeviceError,
    0x31: pkcs11.DeviceMemory,
    0x32: pkcs11.DeviceRemoved,
    0x40: pkcs11.EncryptedDataInvalid,
    0x41: pkcs11.EncryptedDataLenRange,
    0x50: pkcs11.FunctionCancelled,
    0x54: pkcs11.FunctionNotSupported,
    0x60: pkcs11.KeyHandleInvalid,
    0x62: pkcs11.KeySizeRange,
    0x63: pkcs11.KeyTypeInconsistent,
    0x64: pkcs11.KeyNotNeeded,
    0x66: pkcs11.KeyNeeded,
    0x67: pkcs11.KeyIndigestible,
    0x69: pkcs11.KeyNotWrappable,
    0x6A: pkcs11.KeyUnextractable,
    0x70: pkcs11.MechanismInvalid,
    0x71: pkcs11.MechanismParamInvalid,
    0x82: pkcs11.ObjectHandleInvalid,
    0x90: pkcs11.OperationActive,
    0x91: pkcs11.OperationNotInitialized,
    0xA0: pkcs11.PinIncorrect,
    0xA1: pkcs11.PinInvalid,
    0xA2: pkcs11.PinLenRange,
    0xA3: pkcs11.PinExpired,
    0xA4: pkcs11.PinLocked,
    0xB0: pkcs11.SessionClosed,
    0xB1: pkcs11.SessionCount,
    0xB3: pkcs11.SessionHandleInvalid,
    0xB5: pkcs11.SessionReadOnly,
    0xB6: pkcs11.SessionExists,
    0xB7: pkcs11.SessionReadOnlyExists,
    0xB8: pkcs11.SessionReadWriteSOExists,
    0xC0: pkcs11.SignatureInvalid,
    0xC1: pkcs11.SignatureLenRange,
    0xD0: pkcs11.TemplateIncomplete,
    0xD1: pkcs11.TemplateInconsistent,
    0xE0: pkcs11.TokenNotPresent,
    0xE1: pkcs11.TokenNotRecognised,
    0xE2: pkcs11.TokenWriteProtected,
    0xF0: pkcs11.UnwrappingKeyHandleInvalid,
    0xF1: pkcs11.UnwrappingKeySizeRange,
    0xF2: pkcs11.UnwrappingKeyTypeInconsistent,
    0x100: pkcs11.UserAlreadyLoggedIn,
    0x101: pkcs11.UserNotLoggedIn,
    0x102: pkcs11.UserPinNotInitialized,
    0x104: pkcs11.AnotherUserAlreadyLoggedIn,
    0x105: pkcs11.UserTooManyTypes,
    0x110: pkcs11.WrappedKeyInvalid,
    0x112: pkcs11.WrappedKeyLenRange,
    0x113: pkcs11.WrappingKeyHandleInvalid,
    0x114: pkcs11.WrappingKeySizeRange,
    0x115: pkcs11.WrappingKeyTypeInconsistent,
    0x120: pkcs11.RandomSeedNotSupported,
    0x121: pkcs11.RandomNoRNG,
    0x130: pkcs11.DomainParamsInvalid,
    0x1B5: pkcs11.ExceededMaxIterations,
    0x1B8: pkcs11.PinTooWeak,
    0x1B9: pkcs11.PublicKeyInvalid,
    0x200: pkcs11.FunctionRejected,
}


class MechanismStructure(ctypes.Structure):
    """CK_MECHANISM."""

    _fields_ = [
        ("mechanism", ctypes.c_ulong),
        ("pParameter", ctypes.c_void_p),
        ("ulParameterLen", ctypes.c_ulong),
    ]


def mechanism_structure(mechanism: int, *parameter: int) -> MechanismStructure:
    """With no parameter, or with one that is a structure of CK_ULONG, as PSS's is."""
    values = (ctypes.c_ulong * len(parameter))(*parameter)
    address, size = (ctypes.addressof(values), ctypes.sizeof(values)) if parameter else (None, 0)
    made = MechanismStructure(mechanism, address, size)
    made.kept = values  # a pointer to it keeps nothing alive
    return made


class SignCalls:
    """C_SignInit and C_Sign of a started module. Safe to use from many threads; blocks."""

    def __init__(self, sign_init: ctypes._FuncPointer, sign: ctypes._FuncPointer) -> None:
        self._sign_init = sign_init
        self._sign = sign

    def sign(self, session: int, key: int, mechanism: MechanismStructure, data: bytes) -> bytes:
        """With handles of this module; nobody else may use the session meanwhile.

        Raises:
            pkcs11.PKCS11Error: as python-pkcs11 raises it.
        """
        _check(self._sign_init(session, ctypes.addressof(mechanism), key))
        signature = (ctypes.c_char * LONGEST_SIGNATURE)()
        length = ctypes.c_ulong(LONGEST_SIGNATURE)
        _check(self._sign(session, data, len(data), signature, ctypes.byref(length)))
        return ctypes.string_at(signature, length.value)


def _check(code: int) -> None:
    if code:
        error = _ERRORS.get(code)
        raise error() if error else pkcs11.PKCS11Error(_text(code))


def _text(code: int) -> str:
    # In python-pkcs11's words, which `failures` reads.
    if code == _BUFFER_TOO_SMALL:
        return "Buffer was too small. Should never see this."
    return f"Unmapped error code {code:#x}"
