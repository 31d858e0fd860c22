"""Assembles the deny list of peers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sidecar.app.clock import wall
from sidecar.app.parts import Parts
from sidecar.deny.followed import FollowedDenyList
from sidecar.deny.kept import KeptFile
from sidecar.identity.identity import Identity


async def open_deny_list(parts: Parts) -> FollowedDenyList | None:
    """The list that counts, looked at once; `None` where none is configured.

    Raises:
        ConfigurationError: the keys, or the directory for what is kept, cannot be used.
        StartFailed: what an earlier start kept is damaged.
    """
    settings = parts.settings.deny_list
    if settings is None:
        return None
    from sidecar.deny.files import DenyListFiles

    files = DenyListFiles(settings.file, settings.key)
    await asyncio.to_thread(files.require_keys)
    kept = await asyncio.to_thread(KeptFile, settings.state)
    deny_list = FollowedDenyList(files, kept, settings.stale, wall, parts.audit)
    await deny_list.restore()
    await deny_list.look()
    parts.denials = deny_list
    return deny_list


def follow_deny_list(
    parts: Parts, deny_list: FollowedDenyList, identities: Sequence[Identity]
) -> asyncio.Task[None]:
    """Tells every identity's subscribers of each list; the task ends only with a bug."""

    def tell() -> None:
        for identity in identities:
            identity.publisher.publish_denied()

    tell()
    return parts.in_background(asyncio.create_task(deny_list.run(tell)))
