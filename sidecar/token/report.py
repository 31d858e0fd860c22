"""What a token said and was seen to do: the capability report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class MechanismReport:
    """One entry of C_GetMechanismList with its C_GetMechanismInfo; sizes as the token counts."""

    name: str
    flags: tuple[str, ...]
    smallest: int
    largest: int


@dataclass(frozen=True)
class SchemeReport:
    """A signature scheme: the mechanism that makes it, or why none does."""

    scheme: str
    mechanism: str | None
    # "whole" or "hashed outside": what the token is given to sign.
    input: str
    median_ms: float | None
    failure: str = ""


@dataclass(frozen=True)
class AlgorithmReport:
    """What became of a trial key."""

    algorithm: str
    made: bool
    generation_ms: float | None
    # By SENSITIVE, EXTRACTABLE, ALWAYS_SENSITIVE, NEVER_EXTRACTABLE, LOCAL as read back.
    origin: str
    schemes: tuple[SchemeReport, ...]
    failure: str = ""


@dataclass(frozen=True)
class TokenReport:
    """The token and its module. `session_limit` is `None` where the token names none."""

    label: str
    serial: str
    model: str
    manufacturer: str
    library: str
    profile: str
    assurance: str
    protected_authentication_path: bool
    session_limit: int | None
    concurrency: int
    session_objects: bool
    mechanisms: tuple[MechanismReport, ...]
    algorithms: tuple[AlgorithmReport, ...] = ()

    def summary(self) -> dict[str, Any]:
        """For the log: everything but the details of mechanisms, of which those that sign."""
        facts = self.to_json()
        del facts["algorithms"]
        signing = [m.name for m in self.mechanisms if "SIGN" in m.flags and "HMAC" not in m.name]
        return {**facts, "mechanisms": signing}

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, for `--json`."""
        return asdict(self)
