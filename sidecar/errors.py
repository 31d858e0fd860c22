"""The one tree of errors.

Messages are lower case, name the thing and the way out, and never hold a PIN, a
key or a payload. What a caller may do next follows from the type: ask again
later (`Retryable`) or change something first (everything else).
"""

from __future__ import annotations

from enum import Enum


class MeshkeyError(Exception):
    """Anything that meshkey itself reports."""


class Retryable(MeshkeyError):
    """Nothing is wrong with what was asked: ask again a little later."""


class ConfigurationError(MeshkeyError):
    """A setting is missing, unknown or wrong. The process exits with 64."""


class TokenError(MeshkeyError):
    """The token answered, and the answer is no."""


class TokenUnavailable(TokenError, Retryable):
    """The token, its module or its login cannot be used now."""


class LoginRefused(TokenError):
    """The token cannot be logged into until somebody changes something.

    Whoever asks for a signature is told that it is unavailable; a start exits with 77.
    """


class PinRefused(LoginRefused):
    """The token refused the PIN; the same one is not tried again."""


class PinLocked(LoginRefused):
    """The token's PIN is locked, or one more wrong try would lock it."""


class KeyUnsuitable(TokenError):
    """A key could leave the token: if it was just made, it was destroyed; it is never used."""


class KeyChanged(TokenError):
    """The token holds another key under that identifier than it did. It signs nothing."""


class MechanismMissing(TokenError):
    """The token does not do what a key or scheme needs."""


class TokenFull(TokenError):
    """The token has no room for another key."""


class NoSuchKey(TokenError):
    """The token holds no private key with that identifier."""


class KeyRefused(MeshkeyError):
    """What was given is no private key that can be imported. The process exits with 65."""


class PassphraseMissing(KeyRefused):
    """The private key is encrypted, and nobody gave its passphrase."""


class InputMissing(MeshkeyError):
    """A file that was named cannot be read. The process exits with 66."""


class AuditUnreadable(MeshkeyError):
    """What was given is no part of an audit log. The process exits with 65."""


class AuditUnavailable(Retryable):
    """The audit log cannot be written, and nothing is signed without it."""


class KeyInUse(MeshkeyError):
    """A running process signs with that key."""


class AuthorityError(MeshkeyError):
    """The certificate authority refused the request."""


class AuthorityUnavailable(AuthorityError, Retryable):
    """The certificate authority did not answer, or asked to come back."""


class CertificateRefused(MeshkeyError):
    """A certificate or chain failed a check and will not be used."""


class TrustUnavailable(Retryable):
    """A source of trusted roots cannot be read now."""


class DenyListRefused(MeshkeyError):
    """What was given is no deny list that may be taken. The process exits with 65."""


class DenyListUnavailable(Retryable):
    """The deny list cannot be read or kept now, or nothing is signed until there is a newer one."""


class CsrRefused(MeshkeyError):
    """A certificate signing request is not exactly what the issuer signs."""


class RefusalReason(Enum):
    """Why a signature will never be made. Mirrors `Refusal.Reason` in signer.proto."""

    UNKNOWN_KEY = 1
    SCHEME = 2
    PURPOSE = 3
    MESSAGE = 4
    LEASE = 5


class SigningRefused(MeshkeyError):
    """The signer will not sign this; asking again changes nothing."""

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class CallerRefused(MeshkeyError):
    """Whoever is on the other end of the socket may not have what it asks for."""


class SignerBusy(Retryable):
    """More signatures are asked for than the queue admits."""


class OverRate(SignerBusy):
    """A process, or a key, is asked for more signatures a second than its rate allows."""


class UnknownIdentity(MeshkeyError):
    """No identity of that name is configured."""


class UnknownKey(MeshkeyError):
    """No identity of this process has, or had, that key."""


class IdentityDeprovisioned(MeshkeyError):
    """The identity was ended on command, and somebody has to reinstate it first."""


class NotDeprovisioned(MeshkeyError):
    """There is nothing to reinstate."""


class ReloadRefused(MeshkeyError):
    """The configuration as it is now cannot apply to the running process. Nothing changed."""


class StateUnwritable(Retryable):
    """What is to last cannot be written to the disk."""


class KeyRevoked(MeshkeyError):
    """The key was revoked: nothing is signed with it, and no certificate asked for."""


class UnknownSecret(MeshkeyError):
    """Nothing is served over SDS under that name."""


class SecretNotReady(Retryable):
    """There is such a secret, and what it is made of is not there yet."""


class DiscoveryBusy(Retryable):
    """More is asked for over SDS than is served at once."""


class DiscoveryRefused(MeshkeyError):
    """A request over SDS is no such message, or asks for more than a stream may."""


class StartFailed(MeshkeyError):
    """The process could not start. It exits with 69."""
