"""What a CK_RV other than CKR_OK means for what comes next.

PKCS#11 v2.40 section 5.1 and v3.0 section 5.1 (the codes that v2.40 does not have).
"""

from __future__ import annotations

import re

import pkcs11

from sidecar.errors import (
    MechanismMissing,
    PinLocked,
    PinRefused,
    SignerBusy,
    TokenError,
    TokenFull,
)

# Answers to what was asked, not about the token's health: asking again changes nothing.
_ANSWERS = (
    pkcs11.ArgumentsBad,
    pkcs11.AttributeReadOnly,
    pkcs11.AttributeSensitive,
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.DataInvalid,
    pkcs11.DataLenRange,
    pkcs11.DomainParamsInvalid,
    pkcs11.EncryptedDataInvalid,
    pkcs11.EncryptedDataLenRange,
    pkcs11.ExceededMaxIterations,
    pkcs11.FunctionCancelled,
    pkcs11.FunctionRejected,
    pkcs11.KeyIndigestible,
    pkcs11.KeyNeeded,
    pkcs11.KeyNotNeeded,
    pkcs11.KeyNotWrappable,
    pkcs11.KeySizeRange,
    pkcs11.KeyTypeInconsistent,
    pkcs11.KeyUnextractable,
    pkcs11.PinTooWeak,
    pkcs11.PublicKeyInvalid,
    pkcs11.SessionReadOnly,
    pkcs11.SignatureInvalid,
    pkcs11.SignatureLenRange,
    pkcs11.TemplateIncomplete,
    pkcs11.TemplateInconsistent,
    pkcs11.TokenWriteProtected,
    pkcs11.UnwrappingKeySizeRange,
    pkcs11.UnwrappingKeyTypeInconsistent,
    pkcs11.WrappedKeyInvalid,
    pkcs11.WrappedKeyLenRange,
    pkcs11.WrappingKeySizeRange,
    pkcs11.WrappingKeyTypeInconsistent,
)
_MISSING = (
    pkcs11.FunctionNotSupported,
    pkcs11.MechanismInvalid,
    pkcs11.MechanismParamInvalid,
    pkcs11.RandomNoRNG,
    pkcs11.RandomSeedNotSupported,
)
# The token answered, and the answer is no.
REFUSALS = (*_ANSWERS, *_MISSING)
# One session, or what was found through it: a new session may help.
_SESSION = (
    pkcs11.KeyHandleInvalid,
    pkcs11.ObjectHandleInvalid,
    pkcs11.OperationActive,
    pkcs11.OperationNotInitialized,
    pkcs11.SessionClosed,
    pkcs11.SessionHandleInvalid,
    pkcs11.UnwrappingKeyHandleInvalid,
    pkcs11.WrappingKeyHandleInvalid,
)
# Whatever was called, the token compared a PIN: to log in anew may lock it.
_PIN = (pkcs11.PinExpired, pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange)

# What python-pkcs11 has no types for.
_CODE = re.compile(r"0x([0-9a-f]+)")
_ACTION_PROHIBITED = 0x1B
_KEY_CHANGED = 0x65
_KEY_FUNCTION_NOT_PERMITTED = 0x68
_CURVE_NOT_SUPPORTED = 0x140
_INFORMATION_SENSITIVE = 0x170
_TOKEN_RESOURCE_EXCEEDED = 0x201
_KEY_EXHAUSTED = 0x203
# CKR_BUFFER_TOO_SMALL, for which python-pkcs11 gives no number.
_BUFFER = 0x150
_BUFFER_TOO_SMALL = "Buffer was too small"
_ANSWER_CODES = {
    _ACTION_PROHIBITED,
    _KEY_CHANGED,
    _KEY_FUNCTION_NOT_PERMITTED,
    _INFORMATION_SENSITIVE,
    _KEY_EXHAUSTED,
    _BUFFER,
}


class Lost(Exception):
    """Something is of no use any more."""

    # In which start of the module; 0 if it was not started or not logged in.
    era = 0


class SessionLost(Lost):
    """The thread's session is of no use any more; a new one may be."""


class TokenLost(Lost):
    """The token, the login or the module is gone; a restart of the module may help."""


def meaning(error: pkcs11.PKCS11Error, token: str, doing: str) -> Exception:
    """The exception to raise for `error`, met while `doing` something with `token`.

    Answers, full tokens and PINs become a `TokenError`, too many sessions a `SignerBusy`.
    All else, what vendors define included, is a loss: of the session, or of the token.
    """
    # What PKCS#11 does not define has no type of its own, but a number in its text.
    what = str(error) if type(error) is pkcs11.PKCS11Error else type(error).__name__
    code = _code(error)
    if isinstance(error, pkcs11.SessionCount):
        return SignerBusy(f"token {token!r} has no session left; lower token.threads")
    if code == _TOKEN_RESOURCE_EXCEEDED:
        return out_of_memory(token, doing)
    if isinstance(error, _SESSION):
        return SessionLost(what)
    return _answer(error, what, code, token, doing) or TokenLost(what)


def _answer(
    error: pkcs11.PKCS11Error, what: str, code: int | None, token: str, doing: str
) -> TokenError | None:
    if isinstance(error, pkcs11.DeviceMemory):
        return TokenFull(f"token {token!r} is full: {doing} failed; destroy keys: meshkey keys")
    if isinstance(error, _MISSING) or code == _CURVE_NOT_SUPPORTED:
        return MechanismMissing(
            f"token {token!r} cannot do that: {doing} gave {what}; "
            "use another kind of key, or another token"
        )
    if isinstance(error, _ANSWERS) or code in _ANSWER_CODES or _BUFFER_TOO_SMALL in what:
        return TokenError(f"token {token!r} refused {doing}: {what}")
    if isinstance(error, pkcs11.PinLocked):
        return PinLocked(f"the PIN of token {token!r} is locked, says {doing}; start again")
    if isinstance(error, _PIN):
        return PinRefused(f"token {token!r} refused the PIN during {doing}: {what}; start again")
    return None


def out_of_memory(token: str, doing: str) -> SignerBusy:
    """For CKR_DEVICE_MEMORY where nothing is made: the token works on too much at once."""
    return SignerBusy(f"token {token!r} has no memory left for {doing} now; ask again")


def _code(error: pkcs11.PKCS11Error) -> int | None:
    found = _CODE.search(str(error)) if type(error) is pkcs11.PKCS11Error else None
    return int(found[1], 16) if found else None
