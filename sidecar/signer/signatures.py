"""From a request to its answer: policy, token, response."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.core.certificate_verify import Side
from sidecar.errors import (
    KeyChanged,
    LoginRefused,
    NoSuchKey,
    Retryable,
    SignerBusy,
    SigningRefused,
)
from sidecar.identity.registry import IdentityRegistry
from sidecar.rpc.quiet import Quiet
from sidecar.signer.policy import approve
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
    ) -> None:
        self.counts = counts or SigningCounts()
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
        limit: float | None = None,
    ) -> None:
        """Calls `answer` exactly once: at once with a refusal, or when the token is done.

        That is within about the patience, or within `limit` seconds if they are fewer, or
        sooner once the `caller` is gone.
        """
        if isinstance(request, SigningRefused):
            answer(self._failed(0, request, self.counts.other))
            return
        began = self._clock()
        request_id = request.request_id
        answers = self.counts.of(request.scheme)
        try:
            approved = approve(request, self._registry.grant)
            self._registry.require_trusted(approved.key_id)
            self._executor.submit(
                _LANES[approved.side, approved.scheme.is_rsa],
                lambda: self._token.sign(approved.key_id, approved.scheme, approved.message),
                lambda signature, error: answer(
                    self._response(request_id, approved.key_id, signature, error, answers, began)
                ),
                limit=self._limit if limit is None else min(limit, self._limit),
                caller=caller,
            )
        except (SigningRefused, Retryable) as error:
            answer(self._failed(request_id, error, answers))

    def _response(
        self,
        request_id: int,
        key_id: KeyId,
        signature: bytes,
        error: BaseException | None,
        answers: Answers,
        began: float,
    ) -> pb.SignResponse:
        self.counts.times.observe(self._clock() - began)
        if isinstance(error, NoSuchKey | KeyChanged):
            self._registry.replace(key_id, error)
        if error is not None:
            return self._failed(request_id, error, answers)
        answers.signed += 1
        return pb.SignResponse(request_id=request_id, signature=signature)

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
            self.counts.busy += 1
            return pb.Retry(reason=pb.Retry.REASON_BUSY, detail=str(error))
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
