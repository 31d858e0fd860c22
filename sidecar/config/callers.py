"""[[caller]]: who may have what signed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sidecar.config.field import setting
from sidecar.config.values import (
    duration,
    identity_name,
    names,
    purposes,
    sha256s,
    switch,
    text,
    user_id,
)
from sidecar.core.purpose import SigningPurpose


@dataclass(frozen=True)
class CallerSettings:
    """One rule. A process may have what the rules allow that it meets in every point."""

    name: str = setting(identity_name, "what logs call the rule")
    uid: int = setting(user_id, "user that the process runs as: a number, or a name")
    identities: tuple[str, ...] = setting(names, 'identities that it may follow, as in ["default"]')
    purposes: frozenset[SigningPurpose] = setting(
        purposes,
        'what their keys may sign for it: "tls13-server", "tls13-client", "tls12-server", '
        '"tls12-client"',
    )
    gid: int | None = setting(user_id, "its group, too, as a number", default=None)
    executables: frozenset[str] = setting(
        sha256s, "SHA-256 of the files that it may be running", default=frozenset()
    )
    pod: str | None = setting(
        text, "the UID of its pod, or another part of its cgroup's path", default=None
    )
    label: str | None = setting(text, "its AppArmor or SELinux label", default=None)
    started_within: timedelta | None = setting(
        duration, "it was started so long after this sidecar at the latest", default=None
    )
    bearer: bool = setting(
        switch, "whether it must present a token too, see [bearer]", default=False
    )
