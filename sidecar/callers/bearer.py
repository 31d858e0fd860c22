"""Tokens that callers present: signed JWTs (RFC 7519), each good for a short time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt

from sidecar.callers.key_set import VerificationKey
from sidecar.errors import CallerRefused

# Kubernetes' have about 1 KiB.
MOST_BYTES = 8 * 1024
# How much later the issuer's clock may be than ours. No token lives longer for it.
_SKEW_S = 30.0
# What can stand on a line of the list of revoked tokens.
_ID = re.compile(r"[!-~]{1,256}")
# Until the year 9999: more overflows.
_LAST_TIME = 253402300799


@dataclass(frozen=True)
class Wanted:
    """What a token must be, beside well signed and current."""

    audience: str
    issuer: str | None
    longest: timedelta
    # It must have a name of its own, so that it can be revoked.
    needs_id: bool


@dataclass(frozen=True)
class BearerToken:
    """What was verified."""

    subject: str
    id: str | None
    # Seconds since the epoch.
    good_from: float
    expires: float

    def require_current(self, now: datetime) -> None:
        """Raises `CallerRefused` before its time and after it."""
        seconds = now.timestamp()
        if seconds + _SKEW_S < self.good_from:
            raise CallerRefused("its token is not good yet: compare the clocks")
        if seconds >= self.expires:
            raise CallerRefused("its token has expired")


def verified(text: str, keys: Mapping[str, VerificationKey], wanted: Wanted) -> BearerToken:
    """What the token says, whose signature, audience, issuer and lifetime are as they must be.

    Whether it is current is not looked at.

    Raises:
        CallerRefused: it is not good. Nothing of it is in the text, nor in what caused it.
    """
    if len(text) > MOST_BYTES or not text.isascii():
        raise CallerRefused(f"its token is none: more than {MOST_BYTES} bytes, or no ASCII")
    return _token(_claims(text, keys, wanted), wanted)


def _claims(text: str, keys: Mapping[str, VerificationKey], wanted: Wanted) -> Mapping[str, object]:
    # The library's errors are left behind: some have parts of what they are about.
    try:
        name = jwt.get_unverified_header(text).get("kid")
    except (jwt.PyJWTError, ValueError):
        raise CallerRefused("its token is no JWT") from None
    key = keys.get(name) if isinstance(name, str) else None
    if key is None:
        raise CallerRefused("its token is signed with no key of bearer.jwks: look at its kid")
    try:
        claims: Mapping[str, object] = jwt.decode(
            text,
            key.key,
            # As our file has it for this key; what the token says is compared with it.
            algorithms=[*key.algorithms],
            audience=wanted.audience,
            issuer=wanted.issuer,
            # Times are compared here, with the clock that is ours.
            options={
                "require": ["exp", "iat", "aud", "sub"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except jwt.InvalidAudienceError:
        raise CallerRefused("its token is for another audience than bearer.audience") from None
    except jwt.InvalidIssuerError:
        raise CallerRefused("its token is of another issuer than bearer.issuer") from None
    except jwt.MissingRequiredClaimError:
        raise CallerRefused("its token lacks one of exp, iat, aud, sub, iss") from None
    except jwt.InvalidSignatureError:
        raise CallerRefused("its token's signature is wrong") from None
    except (jwt.PyJWTError, ValueError, TypeError):
        raise CallerRefused("its token is malformed, or its alg is not one of its key's") from None
    return claims


def _token(claims: Mapping[str, object], wanted: Wanted) -> BearerToken:
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    good_from = max(issued, _time(claims, "nbf")) if "nbf" in claims else issued
    if expires - issued > wanted.longest.total_seconds():
        raise CallerRefused("its token lives longer than bearer.longest allows")
    subject, token_id = claims.get("sub"), claims.get("jti")
    if not isinstance(subject, str):
        raise CallerRefused("its token's sub is no text")
    if not isinstance(token_id, str) or not _ID.fullmatch(token_id):
        if wanted.needs_id:
            raise CallerRefused("its token has no jti in visible ASCII: it could not be revoked")
        token_id = None
    return BearerToken(subject, token_id, good_from, expires)


def _time(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    # RFC 7519 section 2: a number. JSON as Python reads it has infinite ones and others too.
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not 0 <= value <= _LAST_TIME
    ):
        raise CallerRefused(f"its token's {name} is no time")
    return float(value)
