"""What clients say of the secrets that they are sent, and what they ask for in vain."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

import structlog

from sidecar._proto.third_party import envoy_sds_pb2 as pb
from sidecar.errors import MeshkeyError
from sidecar.rpc.quiet import Quiet
from sidecar.sds.watched import ABSENT, Watched
from sidecar.telemetry import SdsCounts

log = structlog.get_logger(__name__)

_MAX_REASON = 500


class Verdicts:
    """Counts acknowledgements, and logs refusals on either side, for all streams together."""

    def __init__(self, counts: SdsCounts, clock: Callable[[], float] = time.monotonic) -> None:
        self._counts = counts
        self._quiet = Quiet(clock)
        # Secrets whose refusal was expected and has been told: once is enough.
        self._told: set[str] = set()

    def judge(
        self,
        request: pb.DiscoveryRequest | pb.DeltaDiscoveryRequest,
        response: Sequence[tuple[Watched, str]],
        node: str,
    ) -> None:
        """`request` speaks of a response with these secrets in these versions."""
        if request.HasField("error_detail"):
            if response and all(watched.refusal_expected for watched, _ in response):
                self._counts.expected_nacks += 1
            else:
                self._counts.nacks += 1
            error = _printable(request.error_detail.message[:_MAX_REASON]) or "no reason given"
        else:
            self._counts.acks += 1
            error = ""
        for watched, version in response:
            watched.judge(version, error)
        if error:
            # Names that were answered are few: each stands for something that is configured.
            # Others come from outside, and are not remembered.
            expected = {watched.name for watched, _ in response if watched.refusal_expected}
            self._report_expected(expected - self._told, error, node)
            for name, version in [(w.name, v) for w, v in response if v] or [("", ABSENT)]:
                if name not in expected:
                    self._report(name, version, error, node)

    def refuse(self, error: MeshkeyError) -> None:
        """Logs what a client asked for in vain."""
        if (suppressed := self._quiet.suppressed(type(error))) is not None:
            log.warning("secret not served", error=str(error), suppressed=suppressed)

    def _report_expected(self, names: Collection[str], error: str, node: str) -> None:
        for name in names:
            log.info(
                "certificate refused by subscriber, as is expected",
                secret=name,
                error=error,
                node=_printable(node),
            )
        self._told.update(names)

    def _report(self, name: str, version: str, error: str, node: str) -> None:
        if (suppressed := self._quiet.suppressed(name)) is not None:
            log.error(
                "secret refused by subscriber",
                secret=name,
                version=version,
                error=error,
                node=_printable(node),
                suppressed=suppressed,
            )


def _printable(text: str) -> str:
    """What a caller has written, fit for a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)
