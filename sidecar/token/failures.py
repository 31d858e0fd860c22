"""What a CK_RV other than CKR_OK means for what comes next (PKCS#11 v2.40 section 5.1)."""

from __future__ import annotations

import pkcs11

from sidecar.errors import MechanismMissing, SignerBusy, TokenError, TokenFull

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
    pkcs11.FunctionRejected,
    pkcs11.KeyNotWrappable,
    pkcs11.KeySizeRange,
    pkcs11.KeyTypeInconsistent,
    pkcs11.KeyUnextractable,
    pkcs11.PublicKeyInvalid,
    pkcs11.SessionReadOnly,
    pkcs11.TemplateIncomplete,
    pkcs11.TemplateInconsistent,
    pkcs11.TokenWriteProtected,
    pkcs11.UnwrappingKeySizeRange,
    pkcs11.UnwrappingKeyTypeInconsistent,
    pkcs11.WrappedKeyInvalid,
    pkcs11.WrappedKeyLenRange,
)
_MISSING = (
    pkcs11.FunctionNotSupported,
    pkcs11.MechanismInvalid,
    pkcs11.MechanismParamInvalid,
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
    pkcs11.SessionReadOnlyExists,
)


class SessionLost(Exception):
    """The thread's session is of no use any more; a new one may be."""


class TokenLost(Exception):
    """The token, the login or the module is gone; a restart of the module may help."""


def meaning(error: pkcs11.PKCS11Error, token: str, doing: str) -> Exception:
    """The exception to raise for `error`, met while `doing` something with `token`.

    Answers and full tokens become a `TokenError`, too many sessions a `SignerBusy`. All
    else, what vendors define included, is a loss: of the session, or of the token.
    """
    # What PKCS#11 does not define has no type of its own, but a number in its text.
    what = str(error) if type(error) is pkcs11.PKCS11Error else type(error).__name__
    if isinstance(error, pkcs11.DeviceMemory):
        return TokenFull(f"token {token!r} is full: {doing} failed; destroy keys: meshkey keys")
    if isinstance(error, _MISSING):
        return MechanismMissing(
            f"token {token!r} cannot do that: {doing} gave {what}; "
            "use another kind of key, or another token"
        )
    if isinstance(error, _ANSWERS):
        return TokenError(f"token {token!r} refused {doing}: {what}")
    if isinstance(error, pkcs11.SessionCount):
        return SignerBusy(f"token {token!r} has no session left; lower token.threads")
    return SessionLost(what) if isinstance(error, _SESSION) else TokenLost(what)
