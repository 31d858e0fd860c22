"""The deny list, who may sign it, and what an earlier start kept of it."""

from __future__ import annotations

from datetime import datetime

from sidecar.config.deny_list import DenyListSettings
from sidecar.core.deny_list import DenyList, WhenStale
from sidecar.deny.kept import KeptFile
from sidecar.doctor.finding import Finding, Verdict
from sidecar.errors import DenyListRefused, DenyListUnavailable, MeshkeyError

_CHECK = "deny_list"


def examine_deny_list(settings: DenyListSettings, now: datetime) -> Finding:
    """Loads what verifies signatures, so only where a deny list is configured."""
    from sidecar.deny.files import DenyListFiles

    files = DenyListFiles(settings.file, settings.key)
    # A start goes on without a list, and signs nothing if that is how it is configured.
    bad = Verdict.FAILURE if settings.stale is WhenStale.REFUSE else Verdict.WARNING
    try:
        files.require_keys()
        # It looks, and makes nothing.
        kept = KeptFile(settings.state).load() if settings.state.is_dir() else None
    except MeshkeyError as error:
        return Finding(_CHECK, Verdict.FAILURE, str(error))
    try:
        found = files.verified(files.read())
        found.require_issued(now)
    except (DenyListUnavailable, DenyListRefused) as error:
        return Finding(_CHECK, bad, str(error))
    if kept and found.sequence < kept.sequence:
        detail = f"sequence {found.sequence} is lower than {kept.sequence}, which was taken already"
        return Finding(_CHECK, bad, detail)
    if found.is_stale(now):
        return Finding(_CHECK, bad, f"{_said(found)}: stale")
    return Finding(_CHECK, Verdict.OK, _said(found))


def _said(found: DenyList) -> str:
    return (
        f"sequence {found.sequence}, SPIFFE IDs: {len(found.spiffe_ids)}, "
        f"next update by {found.next_update:%Y-%m-%dT%H:%M:%SZ}"
    )
