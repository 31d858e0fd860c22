"""From a request to its answer: policy, token, response."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.audit.base import NO_AUDIT, SIGNED, Asked, SignatureAudit
from sidecar.core.certificate_verify import Side
from sidecar.core.permission import Permissions
from sidecar.core.schemes import SignatureScheme
from sidecar.errors import (
    AuditUnavailable,
    DenyListUnavailable,
    KeyChanged,
    LoginRefused,
    NoSuchKey,
    OverRate,
    RefusalReason,
    Retryable,
    SignerBusy,
    SigningRefused,
)
from sidecar.identity.registry import KEY_ENDED, IdentityRegistry
from sidecar.rpc.quiet import Quiet
from sidecar.signer.policy import ApprovedSignature, approve
from sidecar.signer.quota import Quota
from sidecar.telemetry import Answers, SigningCounts
from sidecar.token.base import KeyId, Token
from sidecar.token.executor import Caller, TokenExecutor
from sidecar.token.lanes import Lane, Purpose

log = structlog.get_logger(__name__)

# What `token.patience` is by default.
_PATIENCE = timedelta(seconds=9)

_LANES = {
    (side, slow): Lane(Purpose.SERVER if side is Side.SERVER else Purpose.CLIENT, slow)
    for side in Side
    for slow in (False, True)
}

_SCHEMES = {int(scheme): scheme.name for scheme in SignatureScheme}
_PURPOSES = {
    pb.PURPOSE_TLS13_SERVER_CERTIFICATE_VERIFY: "tls13-server",
    pb.PURPOSE_TLS13_CLIENT_CERTIFICATE_VERIFY: "tls13-client",
    pb.PURPOSE_TLS12_SERVER_KEY_EXCHANGE: "tls12-server",
    pb.PURPOSE_TLS12_CLIENT_CERTIFICATE_VERIFY: "tls12-client",
}

Answer = Callable[[pb.SignResponse], None]


class Signatures:
    """Answers sign requests. Use it from the event loop; it never blocks."""

    def __init__(
        self,
        registry: IdentityRegistry,
        token: Token,
        executor: TokenExecutor,
        patience: timedelta = _PATIENCE,
        counts: SigningCounts | None = None,
        clock: Callable[[], float] = time.monotonic,
        audit: SignatureAudit = NO_AUDIT,
        quota: Quota | None = None,
    ) -> None:
        self.counts = counts or SigningCounts()
        self.quota = quota or Quota()
        self._audit = audit
        self._limit = patience.total_seconds()
        self._clock = clock
        self._quiet = Quiet(clock)
        self._registry = registry
        self._token = token
        self._executor = executor

    def begin(
        self,
        request: pb.SignRequest | SigningRefused,
        answer: Answer,
        caller: Caller,
        permissions: Permissions,
        patience: float | None = None,
    ) -> None:
        """Calls `answer` exactly once: at once with a refusal, or when the token is done.

        `permissions` are what the caller may have signed now.

        That is within about the patience for the token, or sooner once the `caller` is gone.
        What waits longer than the caller's own `patience`, in seconds, is not begun. A
        signature or a refusal leaves when the audit log has its record.
        """
        try:
            self.quota.admit_caller(caller)
        except OverRate as error:
            answer(self._over_rate(request, error))
            return
        if isinstance(request, SigningRefused):
            self._refuse(pb.SignRequest(), request, caller, self.counts.other, answer)
            return
        began = self._clock()
        answers = self.counts.of(request.scheme)
        try:
            self._audit.require_room()
            approved = approve(request, self._registry.grant, permissions)
            self._registry.require_trusted(approved.key_id)
            self.quota.admit_key(approved.key_id)
            self._executor.submit(
                _LANES[approved.side, approved.scheme.is_rsa],
                lambda: self._sign(approved),
                lambda signature, error: self._signed(
                    request, approved.key_id, signature, error, caller, answers, began, answer
                ),
                limit=self._limit,
                patience=patience,
                caller=caller,
                key_id=approved.key_id,
            )
        except SigningRefused as error:
            self._refuse(request, error, caller, answers, answer)
        except Retryable as error:
            answer(self._failed(request.request_id, error, answers))

    def _over_rate(
        self, request: pb.SignRequest | SigningRefused, error: OverRate
    ) -> pb.SignResponse:
        if isinstance(request, SigningRefused):
            return self._failed(0, error, self.counts.other)
        return self._failed(request.request_id, error, self.counts.of(request.scheme))

    def _sign(self, approved: ApprovedSignature) -> bytes:
        """On a thread of the token."""
        self._require_held(approved.key_id)
        return self._token.sign(approved.key_id, approved.scheme, approved.message)

    def _require_held(self, key_id: KeyId) -> None:
        """Again: it may have been revoked while the request waited, or was in the token."""
        if not self._registry.holds(key_id):
            raise SigningRefused(RefusalReason.UNKNOWN_KEY, KEY_ENDED)

    def _signed(
        self,
        request: pb.SignRequest,
        key_id: KeyId,
        signature: bytes,
        error: BaseException | None,
        caller: Caller,
        answers: Answers,
        began: float,
        answer: Answer,
    ) -> None:
        def recorded(error: BaseException | None) -> None:
            self.counts.times.observe(self._clock() - began)
            if error is not None:
                answer(self._failed(request.request_id, error, answers))
                return
            answers.signed += 1
            answer(pb.SignResponse(request_id=request.request_id, signature=signature))

        try:
            if error is None:
                self._registry.require_signing(key_id)
            else:
                self._require_held(key_id)
        except SigningRefused as refusal:
            self._refuse(request, refusal, caller, answers, answer)
            return
        except DenyListUnavailable as unavailable:
            error = unavailable
        if isinstance(error, NoSuchKey | KeyChanged):
            self._registry.replace(key_id, error)
        if error is not None:
            recorded(error)
        else:
            self._audit.request(_asked(request, caller), SIGNED, recorded)

    def _refuse(
        self,
        request: pb.SignRequest,
        error: SigningRefused,
        caller: Caller,
        answers: Answers,
        answer: Answer,
    ) -> None:
        def recorded(lost: BaseException | None) -> None:
            answer(self._failed(request.request_id, lost or error, answers))

        self._audit.request(_asked(request, caller), f"refused {error.reason.name}", recorded)

    def _failed(self, request_id: int, error: BaseException, answers: Answers) -> pb.SignResponse:
        if isinstance(error, SigningRefused):
            answers.refused += 1
            if (suppressed := self._quiet.suppressed(error.reason)) is not None:
                log.warning(
                    "signature refused",
                    reason=error.reason.name,
                    detail=str(error),
                    suppressed=suppressed,
                )
            reason = pb.Refusal.Reason.Name(error.reason.value)
            refusal = pb.Refusal(reason=reason, detail=str(error))
            return pb.SignResponse(request_id=request_id, refusal=refusal)
        answers.told_to_retry += 1
        return pb.SignResponse(request_id=request_id, retry=self._retry(error))

    def _retry(self, error: BaseException) -> pb.Retry:
        if isinstance(error, SignerBusy):
            if isinstance(error, OverRate):
                self.counts.over_rate += 1
            else:
                self.counts.busy += 1
            return pb.Retry(reason=pb.Retry.REASON_BUSY, detail=str(error))
        if isinstance(error, AuditUnavailable | DenyListUnavailable):
            # The log of events says it, once.
            return pb.Retry(reason=pb.Retry.REASON_TOKEN_UNAVAILABLE, detail=str(error))
        unavailable = pb.Retry.REASON_TOKEN_UNAVAILABLE
        if isinstance(error, NoSuchKey | KeyChanged):
            return pb.Retry(reason=unavailable, detail=str(error))  # the identity logs it
        suppressed = self._quiet.suppressed(type(error))
        if isinstance(error, Retryable | LoginRefused):
            if suppressed is not None:
                log.error("token unavailable", error=str(error), suppressed=suppressed)
            return pb.Retry(reason=unavailable, detail=str(error))
        # A bug of ours: the caller learns no details, the log does.
        if suppressed is not None:
            log.error("signature failed", exc_info=error, suppressed=suppressed)
        return pb.Retry(reason=unavailable, detail="internal error; see the log")


def _asked(request: pb.SignRequest, caller: Caller) -> Asked:
    return Asked(
        caller.process,
        request.key_id,
        _PURPOSES.get(request.purpose) or str(request.purpose),
        _SCHEMES.get(request.scheme) or f"0x{request.scheme:04x}",
        request.message,
    )
