"""What a process tells of itself: structured events without secrets, and counts."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

import structlog


@dataclass
class SigningCounts:
    """What callers of the signer were answered since the start of the process."""

    signed: int = 0
    refused: int = 0
    told_to_retry: int = 0


@dataclass
class SdsCounts:
    """Of the secret discovery service, since the start of the process."""

    # Open at the moment.
    streams: int = 0
    # Responses that a client has taken, or refused.
    acks: int = 0
    nacks: int = 0


def configure_logging(form: str, level: str) -> None:
    """Sends events to standard error as JSON lines or, with `form` "console", for people."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(_json() if form == "json" else _console()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


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
