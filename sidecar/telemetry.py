"""What a process tells of itself: structured events without secrets, and counts."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from typing import Any

import structlog

from sidecar.core.histogram import Histogram
from sidecar.core.schemes import SignatureScheme

# From a token in software that has nothing else to do to where callers give up.
_SIGNATURE_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


@dataclass(slots=True)
class Answers:
    """How many requests were answered how."""

    signed: int = 0
    refused: int = 0
    told_to_retry: int = 0


@dataclass(slots=True)
class CallerCounts:
    """Of one service."""

    # Calls that were not let in, or were ended, because of who called.
    refused: int = 0


class SigningCounts:
    """What callers of the signer were answered since the start of the process."""

    def __init__(self) -> None:
        self.callers = CallerCounts()
        self.by_scheme = {scheme: Answers() for scheme in SignatureScheme}
        # Asked for with a scheme that there is not, or malformed.
        self.other = Answers()
        # Of those told to retry: so many because the queue was full, or too long,
        self.busy = 0
        # and so many because their caller, or the key, had more than its rate allows.
        self.over_rate = 0
        # From the request to its answer, for requests that went to the token.
        self.times = Histogram(_SIGNATURE_S)
        # By code point as it comes off the wire.
        self._by_code = {int(scheme): answers for scheme, answers in self.by_scheme.items()}

    def of(self, scheme: int) -> Answers:
        """Where requests for `scheme` are counted, whether there is such a scheme or not."""
        return self._by_code.get(scheme, self.other)

    @property
    def signed(self) -> int:
        return sum(answers.signed for answers in self._all())

    @property
    def refused(self) -> int:
        return sum(answers.refused for answers in self._all())

    @property
    def told_to_retry(self) -> int:
        return sum(answers.told_to_retry for answers in self._all())

    def _all(self) -> list[Answers]:
        return [*self.by_scheme.values(), self.other]


@dataclass
class RenewalCounts:
    """Of one identity, since the start of the process."""

    succeeded: int = 0
    failed: int = 0


@dataclass
class SdsCounts:
    """Of the secret discovery service, since the start of the process."""

    callers: CallerCounts = field(default_factory=CallerCounts)
    # Open at the moment, and the names that are followed on all of them together.
    streams: int = 0
    followed: int = 0
    # Responses that a client has taken, or refused.
    acks: int = 0
    nacks: int = 0
    # Refusals of certificates, where they are expected; not among the others.
    expected_nacks: int = 0


@dataclass
class AuditCounts:
    """Of the audit log, since the start of the process."""

    written: int = 0
    # Records that could not be written.
    lost: int = 0
    seals: int = 0
    seals_failed: int = 0
    # Failures to make a seal durable or to anchor it.
    not_durable: int = 0


def configure_logging(form: str, level: str) -> None:
    """Sends events to standard error as JSON lines or, with `form` "console", for people."""
    use_level(level)
    structlog.configure(
        processors=[
            _level,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(_json() if form == "json" else _console()),
        ],
        # The level may change, and loggers are cached: `_level` looks at each event.
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def use_level(level: str) -> None:
    """From here on less severe events than `level` are left out."""
    _level.least = _severity(level)


class _Level:
    """A processor of events that lets through what is severe enough."""

    least = logging.INFO

    def __call__(
        self, _logger: Any, method: str, event: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        if _severity(method) < self.least:
            raise structlog.DropEvent
        return event


_level = _Level()


def _severity(name: str) -> int:
    return logging.getLevelNamesMapping()[name.upper()]


# Tracebacks go without the local variables that structlog adds to them: PINs and messages
# to be signed would be among them.


def _json() -> list[structlog.types.Processor]:
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [
        structlog.processors.ExceptionRenderer(tracebacks),
        structlog.processors.JSONRenderer(),
    ]


def _console() -> list[structlog.types.Processor]:
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]
