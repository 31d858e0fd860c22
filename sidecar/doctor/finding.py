"""What the doctor says of one thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from sidecar.errors import MeshkeyError


class Verdict(Enum):
    """How a finding is meant."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    verdict: Verdict
    detail: str


def tried(check: str, attempt: Callable[[], str], bad: Verdict = Verdict.FAILURE) -> Finding:
    """What `attempt` says; the error that it raised, as `bad` as that."""
    try:
        return Finding(check, Verdict.OK, attempt())
    except MeshkeyError as error:
        return Finding(check, bad, str(error))
