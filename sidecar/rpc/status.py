"""Which gRPC status an error becomes: the one place that decides."""

from __future__ import annotations

import grpc

from sidecar.errors import (
    AuthorityError,
    CallerRefused,
    CertificateRefused,
    CsrRefused,
    DiscoveryRefused,
    IdentityDeprovisioned,
    KeyChanged,
    KeyRevoked,
    LoginRefused,
    MeshkeyError,
    NotDeprovisioned,
    ReloadRefused,
    Retryable,
    TokenError,
    TokenFull,
    UnknownIdentity,
    UnknownKey,
    UnknownSecret,
)

_CODES: tuple[tuple[type[MeshkeyError], grpc.StatusCode], ...] = (
    # First match wins; `Retryable` comes first so that "ask again" is never lost.
    (Retryable, grpc.StatusCode.UNAVAILABLE),
    # Not to be repaired by asking again, and not the caller's fault either.
    (LoginRefused, grpc.StatusCode.UNAVAILABLE),
    (CallerRefused, grpc.StatusCode.PERMISSION_DENIED),
    (CsrRefused, grpc.StatusCode.INVALID_ARGUMENT),
    (DiscoveryRefused, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownIdentity, grpc.StatusCode.NOT_FOUND),
    (UnknownKey, grpc.StatusCode.NOT_FOUND),
    (UnknownSecret, grpc.StatusCode.NOT_FOUND),
    (TokenFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (KeyChanged, grpc.StatusCode.DATA_LOSS),
    # The key, the mechanism or the token is not as it must be: somebody has to change that.
    (TokenError, grpc.StatusCode.FAILED_PRECONDITION),
    (AuthorityError, grpc.StatusCode.FAILED_PRECONDITION),
    (CertificateRefused, grpc.StatusCode.FAILED_PRECONDITION),
    (IdentityDeprovisioned, grpc.StatusCode.FAILED_PRECONDITION),
    (NotDeprovisioned, grpc.StatusCode.FAILED_PRECONDITION),
    (KeyRevoked, grpc.StatusCode.FAILED_PRECONDITION),
    (ReloadRefused, grpc.StatusCode.FAILED_PRECONDITION),
)


def status_of(error: MeshkeyError) -> grpc.StatusCode:
    """The status for `error`, by its type."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.INTERNAL
