"""The callers that a configuration knows, and which of them are no callers at all."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator

from sidecar.config.callers import CallerSettings
from sidecar.config.settings import Settings
from sidecar.errors import ConfigurationError
from sidecar.hardening.privileges import user_name
from sidecar.separation.directory import group_name
from sidecar.separation.reach import Caller


def require_other_user(rule: CallerSettings, ours: int) -> str:
    """Returns who the caller of that rule is.

    Raises:
        ConfigurationError: it is the sidecar's own user, who has the token's PIN and the admin
            socket anyway, or root.
    """
    name = user_name(rule.uid)
    if rule.uid == ours:
        raise ConfigurationError(
            f"caller {rule.name}: {name} is the sidecar's own user, who has more than any rule "
            "gives: run the sidecar as a user of its own (process.user); to evaluate, set "
            "signer.allow_own_user"
        )
    if rule.uid == 0:
        raise ConfigurationError(
            f"caller {rule.name}: root has more than any rule gives: run it as another user; to "
            "evaluate, set signer.allow_own_user"
        )
    return f"{name}, who is another user than the sidecar"


def kept_apart(settings: Settings, ours: int) -> Iterator[Caller]:
    """Whom secrets are kept from: each rule's caller, and whoever is in the callers' group.

    Root and the sidecar's own user cannot be kept from anything.
    """
    group = settings.signer.group if settings.signer else None
    shared = {group} if group is not None else set()
    for rule in settings.callers:
        if rule.uid not in {0, ours}:
            own = {rule.gid} if rule.gid is not None else set()
            groups = frozenset(shared | own | _groups(rule.uid))
            yield Caller(f"caller {rule.name}", rule.uid, groups)
    for gid in shared:
        yield Caller(f"group {group_name(gid)} of signer.group", None, frozenset({gid}))


def _groups(uid: int) -> set[int]:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return set()
    return set(os.getgrouplist(entry.pw_name, entry.pw_gid))
