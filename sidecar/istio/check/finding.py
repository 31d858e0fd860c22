"""What a rule has found, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sidecar.istio.check.located import Place


class Severity(StrEnum):
    """An error breaks traffic or lets somebody in; a warning may be meant."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Rule:
    """A name for each thing that can be wrong; `about` is its row in docs/istio-check.md."""

    name: str
    severity: Severity
    about: str

    def at(self, place: Place, happens: str, advice: str) -> Finding:
        """A finding of the rule: one sentence what happens, one what to do."""
        return Finding(place, self, happens, advice)


@dataclass(frozen=True)
class Finding:
    """`happens` says what follows if nothing is done, `advice` what to do."""

    place: Place
    rule: Rule
    happens: str
    advice: str

    def to_json(self) -> Mapping[str, str | int]:
        """Flat, for programs."""
        return {
            "file": self.place.file,
            "line": self.place.line,
            "severity": self.rule.severity.value,
            "rule": self.rule.name,
            "happens": self.happens,
            "to_do": self.advice,
        }


def error(name: str, about: str) -> Rule:
    """A rule whose findings make the command fail."""
    return Rule(name, Severity.ERROR, about)


def warning(name: str, about: str) -> Rule:
    """A rule whose findings are only shown."""
    return Rule(name, Severity.WARNING, about)
