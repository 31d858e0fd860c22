"""Whether callers are kept apart from what is the sidecar's, and what rules know them by."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from sidecar.config.callers import CallerSettings
from sidecar.config.settings import Settings
from sidecar.doctor.finding import Finding, Verdict, tried
from sidecar.hardening.privileges import user_name
from sidecar.separation.callers import kept_apart
from sidecar.separation.checks import Process, checks
from sidecar.separation.places import sockets
from sidecar.separation.reach import Caller
from sidecar.separation.way import Look, way_seen
from sidecar.token.pin import require_pin_file

_ENTER = 1
# What callers do not connect to.
_NOT_FOR_CALLERS = ("admin.read_only", "issuer.socket", "metrics.socket")


def examine_separation(
    settings: Settings, process: Process, environment: Mapping[str, str], *, sees_programs: bool
) -> Iterator[Finding]:
    """`sees_programs`: whether this process may read which programs others run."""
    if pin_file := settings.token.pin_file:

        def readable() -> str:
            require_pin_file(pin_file)
            return f"{pin_file}, mode {pin_file.stat().st_mode & 0o7777:04o}"

        yield tried("token.pin_file", readable)
    for name, check in checks(settings, process, environment):
        yield tried(name, check)
    if settings.signer and settings.signer.allow_own_user:
        detail = "callers may be the sidecar's own user, who has the PIN: for evaluation only"
        yield Finding("signer.allow_own_user", Verdict.WARNING, detail)
    for caller in kept_apart(settings, process.uid):
        yield from _let_in(settings, caller)
    if settings.identities and not settings.callers:
        detail = "nobody may use the sockets: say who may in a [[caller]]; serve shows one"
        yield Finding("callers", Verdict.FAILURE, detail)
    for rule in settings.callers:
        yield _known_by(rule, process, sees_programs=sees_programs)


def _let_in(settings: Settings, caller: Caller, look: Look = os.lstat) -> Iterator[Finding]:
    """The other side of it: what is theirs must be within their reach."""
    for name, socket in sockets(settings):
        if name in _NOT_FOR_CALLERS:
            continue
        for step in way_seen(socket.parent / "socket", look).above:
            if not step.is_link and not caller.rights(step) & _ENTER:
                yield Finding(
                    f"{name}: within callers' reach",
                    Verdict.WARNING,
                    f"{caller.name} may not enter {step.path}, mode {step.mode:04o}: chgrp it to "
                    "the callers' group (signer.group), and chmod g+x",
                )
                break


def _known_by(rule: CallerSettings, process: Process, *, sees_programs: bool) -> Finding:
    check = f"caller {rule.name}: known by"
    points = [item.name for item in fields(rule) if _asked(rule, item)]
    known_by = ", ".join([user_name(rule.uid), *points])
    if "executables" not in points:
        detail = f"{known_by}; not by its program: whatever runs as that user may sign"
        return Finding(check, Verdict.OK, detail)
    if rule.uid != process.uid and not sees_programs:
        return Finding(
            check,
            Verdict.FAILURE,
            f"{known_by}; but what programs another user runs cannot be seen without "
            "CAP_SYS_PTRACE, so it is refused: give the sidecar that capability, or leave "
            "executables out",
        )
    return Finding(check, Verdict.OK, known_by)


def _asked(rule: CallerSettings, item: Field[Any]) -> bool:
    return item.default is not MISSING and getattr(rule, item.name) != item.default
