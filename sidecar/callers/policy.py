"""Rules: which process may have what. Nothing is allowed that no rule allows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sidecar.core.permission import Permissions
from sidecar.core.process import CallingProcess
from sidecar.core.purpose import SigningPurpose
from sidecar.errors import CallerRefused

# How the kubelet names a pod's cgroup: podUID, or with systemd's driver kubepods-...-podUID.slice
# and underscores in the UID. Of a static pod the UID is a hash.
_POD = re.compile(
    r"(?:.+-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?"
)


class Bearers(Protocol):
    """Knows tokens that callers present."""

    def subject(self, token: str) -> str:
        """Whose token it is, if it is good now. Never blocks.

        Raises:
            CallerRefused: it is not; the text is for the log, and has nothing of the token.
        """
        ...


class NoBearers:
    """Where no tokens are configured: none is good."""

    def subject(self, token: str) -> str:  # noqa: ARG002  # whatever it is
        raise CallerRefused("tokens are not taken: there is no section [bearer]")


@dataclass(frozen=True)
class Rule:
    """What a process may have that meets every point. What is `None` or empty is not asked."""

    name: str
    uid: int
    allows: Permissions
    gid: int | None = None
    # SHA-256 in lower case hexadecimal: one of them.
    executables: frozenset[str] = frozenset()
    # A pod's UID, as Kubernetes writes it.
    pod: str | None = None
    # Its cgroup's path, or that of one above it.
    cgroup: str | None = None
    label: str | None = None
    # When it was running at the latest.
    started_by: datetime | None = None
    bearer_subject: str | None = None


class RulePolicy:
    """`Policy`: what the rules allow together."""

    def __init__(self, rules: Sequence[Rule], bearers: Bearers) -> None:
        self._rules = tuple(rules)
        self._bearers = bearers

    def require_user(self, uid: int) -> None:
        """Raises `CallerRefused` for a user of whom no rule speaks."""
        if all(rule.uid != uid for rule in self._rules):
            raise CallerRefused(f"no [[caller]] is for user {uid}")

    def permissions(self, process: CallingProcess, bearer: str | None) -> Permissions:
        """The union of what the rules allow that `process` meets in every point.

        Raises:
            CallerRefused: it meets none; the text names what the nearest one asks for in vain,
                as it is called in the configuration.
        """
        allowed: dict[str, frozenset[SigningPurpose]] = {}
        failures: list[tuple[Rule, list[str]]] = []
        for rule in self._rules:
            if failed := self._failed(rule, process, bearer):
                failures.append((rule, failed))
                continue
            for identity, purposes in rule.allows.items():
                allowed[identity] = allowed.get(identity, frozenset()) | purposes
        if not allowed:
            raise CallerRefused(_why(failures))
        return allowed

    def _failed(self, rule: Rule, process: CallingProcess, bearer: str | None) -> list[str]:
        """The points of `rule` that are not met.

        A token is looked at last: nobody who fails otherwise makes us verify signatures.
        """
        failed = list(_failed_facts(rule, process))
        if failed or rule.bearer_subject is None:
            return failed
        if bearer is None:
            return ["bearer_subject (it presents no token)"]
        try:
            subject = self._bearers.subject(bearer)
        except CallerRefused as error:
            return [f"bearer_subject ({error})"]
        return [] if subject == rule.bearer_subject else ["bearer_subject (it is another's token)"]


def _failed_facts(rule: Rule, process: CallingProcess) -> Iterator[str]:
    """What is not known meets nothing that is asked."""
    if process.uid != rule.uid:
        yield f"uid (it is {process.uid})"
    if rule.gid is not None and process.gid != rule.gid:
        yield f"gid (it is {process.gid})"
    if rule.executables:
        if process.is_interpreter:
            # Its hash says nothing of the program that it runs.
            yield "executables (it is an interpreter)"
        elif process.executable not in rule.executables:
            yield f"executables (it is {process.executable})"
    if rule.pod is not None and _pod(process) != rule.pod:
        yield f"pod (its cgroup is {process.cgroup!r})"
    if rule.cgroup is not None and not _is_under(rule.cgroup, process):
        yield f"cgroup (it is {process.cgroup!r})"
    if rule.label is not None and process.label != rule.label:
        yield f"label (it is {process.label!r})"
    if rule.started_by and (process.started is None or process.started > rule.started_by):
        yield f"started_within (it started {process.started and process.started.isoformat()})"


def _is_under(wanted: str, process: CallingProcess) -> bool:
    beginning = wanted.split("/")
    return _components(process)[: len(beginning)] == beginning


def _pod(process: CallingProcess) -> str | None:
    """The UID of its pod: the outermost name of a pod.

    Whoever may make cgroups under its own may call one after another pod.
    """
    pods = (_POD.fullmatch(component) for component in _components(process))
    pod = next(filter(None, pods), None)
    return pod[1].replace("_", "-") if pod else None


def _components(process: CallingProcess) -> list[str]:
    """Nothing where it is outside of our cgroup namespace: what is above it cannot be seen."""
    components = (process.cgroup or "").split("/")
    return [] if ".." in components else components


def _why(failures: Sequence[tuple[Rule, Sequence[str]]]) -> str:
    if not failures:
        return "no [[caller]] allows anything"
    nearest, points = min(failures, key=lambda failure: len(failure[1]))
    return f"no [[caller]] fits; nearest is {nearest.name!r}, but for: {', '.join(points)}"
