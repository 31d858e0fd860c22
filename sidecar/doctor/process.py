"""What `serve` would run as, and what it could do for its memory here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from sidecar.config.settings import Settings
from sidecar.doctor.finding import Finding, Verdict
from sidecar.hardening.descriptors import inherited
from sidecar.hardening.memory import is_dumpable, why_not_locked
from sidecar.hardening.privileges import user_name
from sidecar.hardening.process import process_status
from sidecar.hardening.start import UMASK
from sidecar.separation.checks import Process
from sidecar.separation.directory import group_name


@dataclass(frozen=True)
class ProcessFacts:
    """Of this process: the doctor becomes the configured user like `serve`."""

    process: Process
    # In effect, as bits.
    capabilities: int
    dumpable: bool
    # Why memory would not be locked, if it would not.
    unlocked: str | None
    # Descriptors that it was started with, beside the standard ones, and what they lead to.
    inherited: Mapping[int, str]

    @classmethod
    def read(cls) -> Self:
        capabilities = int(process_status()["CapEff"], 16)
        return cls(Process.current(), capabilities, is_dumpable(), why_not_locked(), inherited())


def examine_process(settings: Settings, facts: ProcessFacts) -> Iterator[Finding]:
    """User, privileges, core dumps, memory, umask and descriptors."""
    yield _user(settings, facts.process)
    yield _privileges(facts)
    if facts.dumpable:
        yield Finding("core dumps", Verdict.FAILURE, "the process is dumpable: others read the PIN")
    else:
        yield Finding("core dumps", Verdict.OK, "none: the process is not dumpable, its limit is 0")
    if facts.unlocked:
        yield Finding("memory", Verdict.WARNING, f"may be swapped out: {facts.unlocked}")
    else:
        yield Finding("memory", Verdict.OK, "is locked while it serves")
    yield Finding("umask", Verdict.OK, f"{UMASK:04o} while it serves")
    yield Finding("descriptors", Verdict.OK, _descriptors(facts.inherited))


def _descriptors(inherited: Mapping[int, str]) -> str:
    if not inherited:
        return "none inherited beside standard input, output and error"
    those = ", ".join(f"{number} ({end})" for number, end in sorted(inherited.items()))
    return f"inherited {those}; a process that serves closes them first"


def _user(settings: Settings, process: Process) -> Finding:
    groups = ", ".join(group_name(gid) for gid in sorted(process.groups))
    detail = f"{user_name(process.uid)}; groups: {groups}"
    if process.uid:
        return Finding("user", Verdict.OK, detail)
    if settings.process.user is None:
        detail = "root: set process.user to a user of the sidecar's own, or start it as that"
    return Finding("user", Verdict.WARNING, detail)


def _privileges(facts: ProcessFacts) -> Finding:
    if facts.process.uid == 0:
        return Finding("privileges", Verdict.WARNING, "root's, and no others by what it starts")
    if facts.capabilities:
        return Finding(
            "privileges",
            Verdict.WARNING,
            f"capabilities {facts.capabilities:#x} (capsh --decode={facts.capabilities:x}): "
            "whoever takes over this process has them; leave out what nothing needs",
        )
    return Finding("privileges", Verdict.OK, "none, and none by what it starts (no_new_privs)")
