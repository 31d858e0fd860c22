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


def configure_logging(form: str, level: str) -> None:
    """Sends events to standard error as JSON lines or, with `form` "console", for people."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
