"""The first things that a process of ours does to itself."""

from __future__ import annotations

import os

from sidecar.hardening.descriptors import close_inherited
from sidecar.hardening.memory import protect_memory
from sidecar.hardening.privileges import become, forbid_new_privileges

UMASK = 0o077


def shed_inheritance() -> None:
    """For a process that serves, before it opens anything: no descriptors, files for itself
    alone, and no privileges that it does not have.

    Raises:
        StartFailed: the kernel refused.
    """
    close_inherited()
    os.umask(UMASK)
    forbid_new_privileges()


def become_user(uid: int | None, group: int | None) -> None:
    """Becomes the configured user, if one is configured; see `become`.

    What it reads from here on, the PIN before all, nobody but root reads in its memory.
    """
    if uid is not None:
        become(uid, group)
    # Changing the user has set it to what fs.suid_dumpable says (proc(5)).
    protect_memory()
