"""`meshkey doctor`: looks at what a sidecar would run on, and says what is wrong and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from sidecar.config.settings import Settings, TokenSettings
from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import MeshkeyError
from sidecar.token.base import Assurance, Origin
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.probe import try_out
from sidecar.token.report import AlgorithmReport, TokenReport


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


def examine(
    settings: Settings, open_token: Callable[[TokenSettings], Pkcs11Token]
) -> Iterator[Finding]:
    """Yields what it finds, as it finds it. Makes a trial key and destroys it. Blocks."""
    try:
        token = open_token(settings.token)
    except MeshkeyError as error:
        yield Finding("token", Verdict.FAILURE, str(error))
        return
    try:
        report = token.report
        yield Finding(
            "token", Verdict.OK, f"{report.label!r}, {report.model}, profile {report.profile}"
        )
        yield _assurance(token.assurance)
        yield _sessions(settings.token.threads, report)
        algorithm = _algorithm(settings)
        (tried,) = try_out(token, [algorithm]).algorithms
        yield from _key(tried)
    except MeshkeyError as error:
        yield Finding("trial key", Verdict.FAILURE, str(error))
    finally:
        token.close()


def _algorithm(settings: Settings) -> KeyAlgorithm:
    section = settings.identity or settings.issuer
    return section.key_algorithm if section else KeyAlgorithm.EC_P256


def _assurance(assurance: Assurance) -> Finding:
    if assurance is Assurance.HARDWARE:
        return Finding("assurance", Verdict.OK, "hardware")
    return Finding(
        "assurance",
        Verdict.WARNING,
        "software: whoever has the token's store and its PIN has the keys; for evaluation",
    )


def _sessions(threads: int, report: TokenReport) -> Finding:
    limit = "no limit" if report.session_limit is None else f"{report.session_limit} in all"
    if threads > report.concurrency:
        return Finding(
            "sessions",
            Verdict.WARNING,
            f"{limit}: {report.concurrency} of token.threads {threads} are used",
        )
    return Finding("sessions", Verdict.OK, f"{limit}, {threads} used and the login's")


def _key(tried: AlgorithmReport) -> Iterator[Finding]:
    if not tried.made:
        yield Finding("trial key", Verdict.FAILURE, tried.failure)
        return
    yield Finding("trial key", Verdict.OK, f"{tried.algorithm}, made in {tried.generation_ms} ms")
    born = tried.origin == Origin.BORN.value
    yield Finding(
        "readback",
        Verdict.OK if born else Verdict.FAILURE,
        "sensitive, not extractable, never was; made in the token" if born else tried.origin,
    )
    working = [scheme for scheme in tried.schemes if scheme.mechanism]
    yield Finding(
        "schemes",
        Verdict.OK if working else Verdict.FAILURE,
        ", ".join(f"{s.scheme} ({s.median_ms} ms)" for s in working) or "none works",
    )
