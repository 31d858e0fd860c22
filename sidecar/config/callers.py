"""[[caller]] and [bearer]: who may have what signed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sidecar.config.field import setting
from sidecar.config.values import (
    cgroup,
    count,
    duration,
    identity_name,
    names,
    path,
    pod_uid,
    purposes,
    sha256s,
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
        '"tls12-client"; nothing: []',
    )
    gid: int | None = setting(count(0, 2**32 - 2), "its group, too, as a number", default=None)
    executables: frozenset[str] = setting(
        sha256s, "SHA-256 of the files that it may be running", default=frozenset()
    )
    pod: str | None = setting(pod_uid, "the UID of its pod", default=None)
    cgroup: str | None = setting(
        cgroup, 'its cgroup, or one above: the path from the first "/" on', default=None
    )
    label: str | None = setting(
        text, "its AppArmor or SELinux label, as in /proc/PID/attr/current", default=None
    )
    started_within: timedelta | None = setting(
        duration, "it was started so long after this sidecar at the latest", default=None
    )
    bearer_subject: str | None = setting(
        text, "it must also present a token of this subject, see [bearer]", default=None
    )


@dataclass(frozen=True)
class BearerSettings:
    """[bearer]: short-lived tokens (JWT) that callers present beside what the kernel says."""

    jwks: Path = setting(
        path, "file with the public keys of who issues them (JWKS); read again when it changes"
    )
    audience: str = setting(text, "whom they must be for")
    issuer: str | None = setting(text, "who must have issued them", default=None)
    revoked: Path | None = setting(
        path, "file with the `jti` of revoked tokens, one a line; read again", default=None
    )
    longest: timedelta = setting(
        duration, "longest lifetime of a token that is accepted", default=timedelta(hours=1)
    )
