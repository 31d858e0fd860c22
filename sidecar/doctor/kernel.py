"""What this kernel, and what it lets us see, can say of who has connected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from sidecar.callers.kernel import (
    PidIdentity,
    numbers_are_ours,
    pid_identity,
    sees_other_users_programs,
    unknown_user,
)
from sidecar.doctor.finding import Finding, Verdict


@dataclass(frozen=True)
class KernelFacts:
    """Of the one that we run on, for this process."""

    pid_identity: PidIdentity
    # What stands for users that our user namespace does not know, if there are such.
    unknown_user: int | None
    # Whether /proc is of our own PID namespace.
    own_proc: bool
    # Whether we may see which programs other users run.
    sees_programs: bool

    @classmethod
    def read(cls) -> Self:
        """Tries it out."""
        return cls(pid_identity(), unknown_user(), numbers_are_ours(), sees_other_users_programs())


def examine_kernel(facts: KernelFacts) -> Iterator[Finding]:
    """As callers are told apart."""
    known = facts.pid_identity is not PidIdentity.NONE
    yield Finding(
        "callers' processes",
        Verdict.OK if known else Verdict.FAILURE,
        f"told apart by {facts.pid_identity.value}",
    )
    if facts.unknown_user is not None:
        detail = (
            f"it does not know all users: {facts.unknown_user} may be any other, and is refused"
        )
        yield Finding("user namespace", Verdict.WARNING, detail)
    if not facts.own_proc:
        yield Finding(
            "/proc",
            Verdict.FAILURE,
            "is of another PID namespace, so nothing is measured: mount this process's own there",
        )
